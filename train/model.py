"""A model directory -> the model with its loss on this rank's device, sharded over the ranks.

Any causal language model of transformers that reads token ids can be loaded; `isolation` says in
which rows it can be trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from orca2_gen.run_directory.json_files import read_json
from train.architecture import (
    attention_of,
    layers_of,
    num_positions,
    rotary_isolation,
    without_noise,
)
from train.head import balances, check_loss, head_is_matrix
from train.isolation import (
    LAYOUTS,
    Isolation,
    kind_of,
    probed_isolation,
    settled,
    unreached_weights,
)
from train.loss import LabelledLoss
from train.ranks import device, is_distributed, world_size
from train.router_loss import router_of
from train.tiny_copy import layers_of_every_kind, tiny_copy

_WEIGHT_FILES = (".safetensors", ".safetensors.index.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model that can be trained, and the rows in which it can be."""

    loss: LabelledLoss
    isolation: Isolation


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


def load_sharded(
    model_dir: Path,
    *,
    dtype: torch.dtype,
    gradient_checkpointing: bool = False,
    longest: int = 0,
    row_tokens: int | None = None,
) -> LoadedModel:
    """The model of a directory with its loss, probed before it is sharded.

    The weights are float32, as the optimizer needs them; `dtype` is that of the computation.

    Args:
        model_dir: the model.
        dtype: number format of the computation.
        gradient_checkpointing: whether layers are computed again in the backward pass.
        longest: tokens of the longest example, which rotary scaling may depend on.
        row_tokens: tokens of a packed row; None if they may be any.

    Raises:
        ValueError: the directory holds no whole model in safetensors, or one that cannot be trained
            on token ids.
    """
    with told(model_dir):
        check_weight_files(model_dir)
        config = model_config(model_dir)
        without_noise(config)
        attention = attention_of(config)
        model, found = AutoModelForCausalLM.from_pretrained(
            model_dir,
            config=config,
            dtype=torch.float32,
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
    if not is_distributed():
        model.to(device())  # where a probe is fast
    loaded = probed(model, dtype=dtype, longest=longest)
    small = _small_copy(model, config, attention, row_tokens)
    copied = Isolation(layout="packed") if small is None else settled(small.loss, small.isolation)
    freeze_unreached(model, set() if small is None else unreached_weights(small.loss))
    strictest = max(loaded.isolation, copied, key=lambda each: LAYOUTS.index(each.layout))
    loaded = dataclasses.replace(loaded, isolation=strictest)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss = loaded.loss
    if not is_distributed():
        loss.to(device())
        return loaded
    # Each layer is moved to its device as it is sharded, so a device never holds the whole model.
    mesh = init_device_mesh(device().type, (world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(loss, mesh=mesh, mp_policy=policy)
    return loaded


def probed(model: Any, *, dtype: torch.dtype = torch.float32, longest: int = 0) -> LoadedModel:
    """A model with its loss, and what the probes say of it.

    Args:
        model: a causal language model of transformers, unsharded.
        dtype: number format of the computation in training; the probes compute in float32.
        longest: tokens of the longest example.

    Raises:
        ValueError: it cannot be trained on token ids; one line that names its class.
    """
    name = type(model).__name__
    model.eval()
    if not isinstance(model.get_output_embeddings(), torch.nn.Module):
        raise ValueError(f"{name} has no head that makes logits; choose another model")
    try:
        is_matrix = head_is_matrix(model)
        probe = LabelledLoss(model, head_is_matrix=is_matrix)
        check_loss(probe)
    except ValueError:
        raise
    except Exception as error:  # the model's own code
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name} cannot be trained on token ids alone ({reason})") from error
    found = probed_isolation(probe)  # always: it refuses what reads ahead
    isolation = rotary_isolation(model, longest) or found
    router = router_of(model, model.config.get_text_config())
    if router is not None and not balances(model, router):
        router = None
    loss = LabelledLoss(model, dtype=dtype, head_is_matrix=is_matrix, router=router)
    return LoadedModel(loss=loss, isolation=isolation)


def _small_copy(
    model: Any, config: Any, attention: str, row_tokens: int | None
) -> LoadedModel | None:
    """A tiny copy, in which windows and chunks are shorter than an example; None without one.

    A model that cuts a row into chunks of 8,192 tokens shows it in no row of a probe.
    """
    try:
        num_layers = layers_of_every_kind(model, config)
        return probed(tiny_copy(config, num_layers, attention, row_tokens=row_tokens))
    except Exception:  # the model's own code at other sizes; the model itself has been asked
        return None


def freeze_unreached(model: Any, unreached: Collection[str]) -> None:
    """Freezes weights without a gradient: their optimizer has no state that could be resumed.

    Args:
        model: gets frozen what belongs to no part of its text, such as what reads pictures.
        unreached: kinds of other weights that are frozen; see `isolation.unreached_weights`.
    """
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    of_text = {id(parameter) for part in parts for parameter in part.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in of_text or kind_of(name) in unreached:
            parameter.requires_grad_(False)


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


def described_model(config: Any, attention: str) -> Any:
    """The model that a config describes, on torch's meta device: shapes and no values.

    Raises anything: the model's own code runs.
    """
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
        )


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
