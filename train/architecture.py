"""What the code of an architecture asks of training: attention, layers, positions, noise."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from train.isolation import Isolation
from train.tiny_copy import stacked_layers


def num_positions(config: Any) -> int | None:
    """The positions of a text model; None if it has no such limit, as a recurrent one.

    Raises:
        ValueError: its config gives something else.
    """
    if not hasattr(config, "max_position_embeddings"):
        return None
    positions = config.max_position_embeddings
    if type(positions) is not int:
        raise ValueError(f"max_position_embeddings is {positions!r}")
    return positions


def rotary_isolation(model: Any, longest: int) -> Isolation | None:
    """The Isolation of a model whose rotary positions scale with the longest example of a pass.

    None if they do not, or no example is longer than the length from which they do.

    Raises:
        ValueError: they scale with the longest example ever seen.
    """
    kinds = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        kinds |= set(kind.values()) if isinstance(kind, dict) else {kind}
    scaled = kinds & {"longrope", "dynamic"}
    if not scaled:
        return None
    limit = _rotary_limit(model.config.get_text_config())
    if longest <= limit:
        return None
    name = type(model).__name__
    if "dynamic" in scaled:
        raise ValueError(
            f"{name} changes its rotary positions with the longest example that it has seen, "
            f"beyond {limit} tokens, and the dataset has {longest}; leave longer examples out"
        )
    reason = (
        f"{name} changes its rotary positions where an example of a forward pass has more than "
        f"{limit} tokens, so each gets a pass of its own"
    )
    return Isolation(layout="alone", reason=reason)


def _rotary_limit(config: Any) -> int:
    """The smallest length beyond which rotary positions are scaled."""
    values = getattr(config, "rope_parameters", None) or {}
    parts = [values, *(part for part in values.values() if isinstance(part, dict))]
    found = [
        part["original_max_position_embeddings"]
        for part in parts
        if "original_max_position_embeddings" in part
    ]
    return int(min(found or [num_positions(config) or 0]))


def attention_of(config: Any) -> str:
    """The implementation of attention: torch's fused one, or plain matrices where it is unknown."""
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(
                config, attn_implementation="sdpa", trust_remote_code=False
            )
    except (ValueError, ImportError):
        return "eager"
    return "sdpa"


def without_noise(config: Any) -> None:
    """Sets dropout and the noise of routers to 0 in a config and its parts.

    Ranks would draw other numbers than one process, and a resumed training others than a whole one.
    """
    text = config.get_text_config()
    for part in {id(config): config, id(text): text}.values():
        for key, value in list(vars(part).items()):
            if isinstance(value, float) and ("drop" in key or "jitter" in key) and value > 0.0:
                setattr(part, key, 0.0)


def text_of(model: Any) -> Any:
    """The part of a model that reads token ids, of one with several parts; else the model.

    What some models call their decoder is their head.
    """
    decoder, embeddings = model.get_decoder(), model.get_input_embeddings()
    is_whole = any(module is embeddings for module in decoder.modules())
    return decoder if is_whole else model


def layers_of(model: Any) -> list[torch.nn.Module]:
    """The parts of a model that are sharded one by one, the inner first.

    They are what the model says must not be split, or the longest list of its modules.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in names]
    return (found or stacked_layers(model))[::-1]


def causal_share(model: Any, seq_len: int) -> float:
    """The share of a row's pairs of tokens that attention computes where it needs no mask but the
    causal one: half of them, or all where the implementation makes a mask of that one too.

    A layer with a window has a mask as soon as a row reaches it (transformers: masking_utils.py).
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    has_window = isinstance(window, int) and 0 < window < seq_len
    return 1.0 if model.config._attn_implementation != "sdpa" or has_window else 0.5
