"""A model directory -> the model with its loss on this rank's device, sharded over the ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from orca2_gen.run_directory.json_files import read_json
from train.loss import LabelledLoss
from train.ranks import device, is_distributed, world_size

_WEIGHT_FILES = (".safetensors", ".safetensors.index.json")


def check_examples_fit(model_dir: Path, *, longest: int, largest_id: int) -> None:
    """Refuses examples that the model cannot read.

    Raises:
        ValueError: the longest has more tokens than the model has positions, an id is outside its
            vocabulary, or the directory holds no model.
    """
    with told(model_dir):
        config = model_config(model_dir)
        positions, vocabulary = int(config.max_position_embeddings), int(config.vocab_size)
    if longest > positions:
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


def load_sharded(
    model_dir: Path, *, dtype: torch.dtype, gradient_checkpointing: bool = False
) -> LabelledLoss:
    """The model of a directory with its loss.

    The weights are float32, as the optimizer needs them; `dtype` is that of the computation.

    Raises:
        ValueError: the directory holds no whole model in safetensors, or its head is more than a
            matrix.
    """
    with told(model_dir):
        check_weight_files(model_dir)
        model, found = AutoModelForCausalLM.from_pretrained(
            model_dir,
            dtype=torch.float32,
            attn_implementation="sdpa",
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
    loss = LabelledLoss(model, dtype=dtype)
    loss.check_parts()
    loss.check_head()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not is_distributed():
        loss.to(device())
        return loss
    # Each layer is moved to its device as it is sharded, so a device never holds the whole model.
    mesh = init_device_mesh(device().type, (world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in model.base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(loss, mesh=mesh, mp_policy=policy)
    return loss


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


def model_config(model_dir: Path) -> Any:
    """The config of a model, as transformers reads it; raises anything."""
    return AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)


def check_weight_files(model_dir: Path) -> None:
    """Refuses a config or an index that leads to a file which is not safetensors, or elsewhere.

    Raises:
        ValueError: it does.
    """
    names = [getattr(model_config(model_dir), "transformers_weights", None)]
    index = model_dir / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        names += list(read_json(index)["weight_map"].values())
    for name in dict.fromkeys(names):
        if name is not None and ("/" in name or not name.endswith(_WEIGHT_FILES)):
            raise ValueError(f"it names the weights file {name!a}")
