"""A model directory as transformers reads it: its config, its shape, its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from orca2_gen.run_directory.json_files import read_json
from train.architecture import num_positions

_WEIGHT_FILES = (".safetensors", ".safetensors.index.json")


def check_examples_fit(model_dir: Path, *, longest: int, largest_id: int) -> None:
    """Refuses examples that the model cannot read.

    Raises:
        ValueError: the longest has more tokens than the model has positions, an id is outside its
            vocabulary, or the directory holds no model.
    """
    with told(model_dir):
        config = model_config(model_dir).get_text_config()
        vocabulary, positions = int(config.vocab_size), num_positions(config)
    if positions is not None and longest > positions:
        raise ValueError(
            f"the longest example has {longest} tokens and {model_dir} has {positions} positions "
            f"(max_position_embeddings); remove longer examples from the dataset, or train another "
            f"model"
        )
    if largest_id >= vocabulary:
        raise ValueError(
            f"the dataset holds token id {largest_id} and {model_dir} has {vocabulary} "
            f"(vocab_size): its embeddings do not fit its tokenizer; resize them first"
        )


def model_config(model_dir: Path) -> Any:
    """The config of a model, as transformers reads it; raises anything."""
    return AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)


def described_model(config: Any, attention: str) -> Any:
    """The model that a config describes, on torch's meta device: shapes and no values.

    Raises anything: the model's own code runs.
    """
    with torch.device("meta"):
        return from_config(config, attention)


def from_config(config: Any, attention: str) -> Any:
    """A model of random float32 weights; raises anything."""
    return AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
    )


def stored_dtype(model_dir: Path) -> torch.dtype:
    """The one number format of a directory's weights; float32 if it is none of half the size, or
    if there are several.

    Raises:
        ValueError: a file cannot be read.
    """
    index, names = model_dir / SAFE_WEIGHTS_INDEX_NAME, {SAFE_WEIGHTS_NAME}
    found = set()
    with told(model_dir):
        if index.is_file():
            names = set(read_json(index)["weight_map"].values())
        for path in (model_dir / name for name in names):
            if path.is_file():  # its absence is told where the model is read
                with safe_open(path, framework="pt") as file:
                    found |= {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    halves = {"BF16": torch.bfloat16, "F16": torch.float16}
    return halves.get(found.pop(), torch.float32) if len(found) == 1 else torch.float32


def whole_model(model_dir: Path, config: Any, attention: str, dtype: torch.dtype) -> Any:
    """The model of a directory with all its weights in this format.

    In the format of its files they take no memory but the files' pages.

    Raises:
        ValueError: it cannot be read, or lacks some.
    """
    with told(model_dir):
        model, found = AutoModelForCausalLM.from_pretrained(
            model_dir,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,  # the other format is a pickle
            # transformers draws the weights of both kinds at random, and we name them below.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        if absent := sorted(found["missing_keys"]):
            raise ValueError(f"it lacks {len(absent)} of its weights, for example {absent[0]}")
        if mismatched := sorted(found["mismatched_keys"]):
            name, *shapes = mismatched[0]
            raise ValueError(
                f"{len(mismatched)} of its weights have other shapes than its config, for example "
                f"{name}: {' and '.join(str(tuple(shape)) for shape in shapes)}"
            )
    return model


def check_no_adapter(model_dir: Path) -> None:
    """Refuses a directory with an adapter, which transformers loads if it finds peft installed.

    Raises:
        ValueError: it has one.
    """
    if (model_dir / "adapter_config.json").exists():
        raise ValueError(
            f"{model_dir} is or holds an adapter (adapter_config.json); merge it into its model "
            "(peft's merge_and_unload) and save that, or remove the adapter's files"
        )


def check_weight_files(model_dir: Path) -> None:
    """Refuses a config or an index that leads to a file which is not safetensors, or elsewhere.

    Raises:
        ValueError: it does, or the weights that it leads to are quantized.
    """
    config = model_config(model_dir)
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError("its weights are quantized, and training needs them whole")
    names = [getattr(config, "transformers_weights", None)]
    index = model_dir / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        names += list(read_json(index)["weight_map"].values())
    for name in dict.fromkeys(names):
        if name is not None and ("/" in name or not name.endswith(_WEIGHT_FILES)):
            raise ValueError(f"it names the weights file {name!a}")


@contextmanager
def told(model_dir: Path) -> Iterator[None]:
    """Turns the error of a broken model into one line; transformers raises anything there.

    Raises:
        ValueError: any error was raised inside.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # The first sentence says what; advice about transformers itself follows.
        reason = " ".join(str(error).split()).partition(". ")[0][:300] or type(error).__name__
        raise ValueError(
            f"{model_dir} holds no model that can be trained ({reason}); copy it again, save it "
            f"with save_pretrained, or train a model of another architecture"
        ) from error
