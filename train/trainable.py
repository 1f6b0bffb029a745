"""Can a model be trained as a config says? Asked of its files alone; no weight is read.

The model is built on torch's meta device, where tensors have shapes and no values, so that one of
any size takes a second; what depends on the architecture's code is asked of a tiny copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers.utils import logging

from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.model_config import model_body, said
from orca2_gen.preflight.weights import INDEX, SINGLE, Weights, quantity, read_weights
from train.architecture import attention_of, layers_of, num_positions
from train.extras import check_extra
from train.isolation import settled
from train.lora import no_layer, num_lora_parameters, product_kinds
from train.memory import MemoryNeed, fewest_ranks, memory_need, sizes_of
from train.model_directory import (
    check_examples_fit,
    check_no_adapter,
    check_weight_files,
    described_model,
    model_config,
    told,
)
from train.probes import probed
from train.recomputing import Recomputing
from train.tiny_copy import layers_of_every_kind, tiny_copy

_GPU = 80_000_000_000
"""Bytes of the GPUs that people ask about: those of an A100 or H100."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingQuestion:
    """The settings that decide whether a model can be trained."""

    key: str
    """Key in the config that names the model."""
    model_dir: Path
    seq_len: int
    longest: int
    """Tokens that an example may have."""
    optimizer: str
    gradient_checkpointing: Recomputing
    rows_per_forward: int = 1
    dtype: str = "bfloat16"
    lora_rank: int | None = None
    moments_dtype: str = "float32"
    num_ranks: int | None = None
    """Processes that will train; None if that is not known yet."""


def trainable_lines(asked: TrainingQuestion) -> tuple[list[str], list[str]]:
    """What training a model takes, and what of it is odd, in lines for people.

    Raises:
        ValueError: it cannot be trained so; one line that names key, directory and remedy.
    """
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what matters of its reports is our own line
    try:
        weights = read_weights(asked.key, asked.model_dir)
        return _lines(asked, weights)
    except ValueError as error:
        reason = str(error).removeprefix(f"{asked.key}: ")
        named = reason if str(asked.model_dir) in reason else f"{asked.model_dir}: {reason}"
        raise ValueError(f"{asked.key}: {named}") from error
    finally:
        logging.set_verbosity(before)


def _lines(asked: TrainingQuestion, weights: Weights) -> tuple[list[str], list[str]]:
    check_no_adapter(asked.model_dir)
    model_body(asked.key, asked.model_dir)
    if asked.lora_rank is not None:
        check_extra("lora", package="peft", key="training.lora_rank")
    _check_files(asked.model_dir)
    with told(asked.model_dir):
        config = model_config(asked.model_dir)
        text = config.get_text_config()
        attention = attention_of(config)
        model = described_model(config, attention)
    check_examples_fit(asked.model_dir, longest=0, largest_id=0)
    _check_tensors(asked.model_dir, model, weights.tensors)
    if asked.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise ValueError(
            f"{type(model).__name__} supports no gradient checkpointing; set "
            "training.gradient_checkpointing = false"
        )
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    need = asked_memory(asked, text, model)
    facts = [
        f"{type(model).__name__} can be trained: {quantity(num_parameters, 'billion', 'million')} "
        f"parameters{_of_lora(asked, model)}, {quantity(need.spread, 'GB', 'MB')} for weights, "
        "gradients and optimizer state over all processes, and about "
        f"{quantity(need.own, 'GB', 'MB')} in each for a forward pass of "
        f"{asked.rows_per_forward} x {asked.seq_len} tokens; {_on_gpus(need)}"
    ]
    if asked.longest > asked.seq_len:
        facts.append(
            f"an example may have {asked.longest} tokens; training refuses those longer than "
            f"training.seq_len, {asked.seq_len}"
        )
    return facts, [*_doubts(asked, model, text, attention), *_probed(asked, model, config)]


def _of_lora(asked: TrainingQuestion, model: Any) -> str:
    if asked.lora_rank is None:
        return ""
    num = quantity(num_lora_parameters(model, asked.lora_rank), "billion", "million")
    return f" and {num} beside them that LoRA trains in their place"


def asked_memory(asked: TrainingQuestion, text: Any, model: Any) -> MemoryNeed:
    """What the training that is asked about takes of GPUs.

    Args:
        asked: the settings.
        text: the text config of the model.
        model: the model.
    """
    return memory_need(
        text,
        **sizes_of(model, asked.lora_rank),
        optimizer=asked.optimizer,
        moments_dtype=asked.moments_dtype,
        seq_len=asked.seq_len,
        rows_per_forward=asked.rows_per_forward,
        dtype=asked.dtype,
        gradient_checkpointing=asked.gradient_checkpointing,
    )


def _on_gpus(need: MemoryNeed) -> str:
    """How many GPUs of the common size it takes."""
    ranks = fewest_ranks(need, _GPU)
    if ranks is None:
        return (
            f"no number of GPUs of {quantity(_GPU, 'GB', 'MB')} has room for that pass: lower "
            "rows_per_forward or seq_len, or set gradient_checkpointing"
        )
    return f"{ranks} GPU{'s' * (ranks > 1)} of {quantity(_GPU, 'GB', 'MB')} or more"


def _probed(asked: TrainingQuestion, model: Any, config: Any) -> list[str]:
    """What is odd of the rows that the model can be trained in.

    Raises:
        ValueError: it cannot be trained on token ids.
    """
    name = type(model).__name__
    try:
        num_layers = layers_of_every_kind(model, config)
        attention = model.config._attn_implementation
        small = tiny_copy(config, num_layers, attention, row_tokens=asked.seq_len)
    except Exception as error:  # the model's own code
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return [f"whether packed examples see each other is known when training starts: {reason}"]
    loaded = probed(small, longest=min(asked.longest, asked.seq_len))
    isolation = settled(loaded.loss, loaded.isolation)
    odd = [isolation.reason] if isolation.reason else []
    if asked.lora_rank is not None and not product_kinds(small):
        raise ValueError(no_layer(name))
    if asked.lora_rank is not None and _has_experts(config):
        odd.append("experts that lie in one tensor stay as they are, and LoRA trains the rest")
    if loaded.loss.router is None and _has_experts(config):
        odd.append(f"{name} names no loss that balances its experts, so they train without one")
    return odd


def _has_experts(config: Any) -> bool:
    return any(said(config.get_text_config(), name) for name in _EXPERTS)


def _check_files(model_dir: Path) -> None:
    """Checks that transformers finds the weights."""
    with told(model_dir):
        check_weight_files(model_dir)
        named = getattr(model_config(model_dir), "transformers_weights", None)
    if named is None and not any((model_dir / name).is_file() for name in (SINGLE, INDEX)):
        raise ValueError(
            f"{model_dir} has neither {SINGLE} nor {INDEX}, and training reads no others; save the "
            "model again with save_pretrained"
        )


def _check_tensors(model_dir: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks names and shapes of the weights against the model that the config describes.

    Raises:
        ValueError: a weight is absent or has another shape.
    """
    prefix = f"{model.base_model_prefix}."
    places: dict[int, list[str]] = {}
    expected = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in expected.items():
        places.setdefault(id(parameter), []).extend([name, name.removeprefix(prefix)])
    for name, parameter in expected.items():
        held = tensors.get(name)
        if held is not None and held.shape != tuple(parameter.shape):
            raise ValueError(
                f"{model_dir} holds {name} with shape {held.shape}, and its config.json describes "
                f"{tuple(parameter.shape)}; copy the model again"
            )
    known = {name for names in places.values() for name in names}
    # Names that only the files have may be old ones that transformers maps to several new ones.
    if all(name in known or name.endswith(("inv_freq", ".bias")) for name in tensors):
        absent = [names[0] for names in places.values() if not any(n in tensors for n in names)]
        if absent:
            raise ValueError(
                f"{model_dir} lacks {len(absent)} of the weights that its config.json describes, "
                f"for example {absent[0]}; copy the model again"
            )


def _doubts(asked: TrainingQuestion, model: Any, text: Any, attention: str) -> list[str]:
    odd = []
    reach, positions = min(asked.longest, asked.seq_len), num_positions(text)
    if positions is not None and reach > positions:
        odd.append(
            f"an example may have {reach} tokens, and training refuses those longer than the "
            f"model's {positions} positions (max_position_embeddings)"
        )
    if attention == "eager":
        odd.append(
            "torch's fused attention does not know its kind, so attention takes memory for every "
            "pair of tokens in a row"
        )
    if (asked.num_ranks or 1) > 1 and not layers_of(model):
        raise ValueError(
            f"{type(model).__name__} has no list of layers to share among {asked.num_ranks} "
            "processes; train it in one (--nproc-per-node 1)"
        )
    return odd


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
