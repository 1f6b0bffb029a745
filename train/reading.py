"""A model directory -> what the one rank that reads it shares with the others.

Weights are read in the format in which they lie, so that they take no memory but the pages of their
files, which the system takes back when it needs them. Probes ask for float32: they get the first
layers, among which is each kind that the model has.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from train.model_directory import from_config, stored_dtype, whole_model
from train.probes import Found, found_in, probed, small_copy
from train.tiny_copy import MOST_LAYERS, cut_layers, layers_of_every_kind
from train.weights import buffers_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the reading rank has."""

    found: Found
    weights: dict[str, torch.Tensor]
    """Name -> the whole parameter, in the format in which it was read."""
    buffers: dict[str, torch.Tensor]


def read_to_share(
    model_dir: Path,
    config: Any,
    attention: str,
    shell: nn.Module,
    *,
    longest: int,
    row_tokens: int | None,
) -> Reading:
    """The Reading of a model directory, probed.

    Args:
        model_dir: the model.
        config: its config.
        attention: the implementation of attention.
        shell: the model without values.
        longest: tokens of the longest example.
        row_tokens: tokens of a packed row; None if they may be any.

    Raises:
        ValueError: it holds no whole model, or one that cannot be trained on token ids.
    """
    dtype = stored_dtype(model_dir)
    model = whole_model(model_dir, config, attention, dtype)
    small = small_copy(model, config, attention, row_tokens)
    first = first_layers(model, config, attention)
    buffers = None
    if first is not None:
        is_float32 = dtype == torch.float32
        buffers = buffers_of(model) if is_float32 else float32_buffers(shell, model, first)
    if buffers is not None:
        _check_finite(model)
        found = found_in(probed(first, longest=longest), small)
    else:
        del model, first  # before the same again, in float32
        asked = whole_model(model_dir, config, attention, torch.float32)
        found, buffers = found_in(probed(asked, longest=longest), small), buffers_of(asked)
        del asked  # RWKV's weights are others once it has answered
        model = whole_model(model_dir, config, attention, torch.float32)
    return Reading(
        found=found,
        weights={name: each.detach() for name, each in model.named_parameters()},
        buffers=buffers,
    )


def first_layers(model: Any, config: Any, attention: str) -> Any:
    """A float32 model of a model's first layers, among which is each kind that it has.

    None if it would have most of the model's weights, or cannot be cut so.
    """
    num_layers = layers_of_every_kind(model, config)
    if num_layers == MOST_LAYERS:
        return None  # there may be more kinds
    try:
        cut = from_config(cut_layers(copy.deepcopy(config), num_layers), attention)
        values = model.state_dict()
        with torch.no_grad():
            for name, own in cut.state_dict(keep_vars=True).items():
                if values[name].shape != own.shape:
                    return None
                own.copy_(values[name])
    except Exception:  # the model's own code at another depth; the whole model is asked then
        return None
    sizes = [sum(each.numel() for each in part.parameters()) for part in (cut, model)]
    return cut if 2 * sizes[0] <= sizes[1] else None


def float32_buffers(
    shell: nn.Module, model: nn.Module, first: nn.Module
) -> dict[str, torch.Tensor] | None:
    """The buffers of a model as float32 code makes them.

    None if some can only be had from the whole model in float32.

    Args:
        shell: the model without values.
        model: the model in the format of its files.
        first: its first layers in float32.
    """
    stored = shell.state_dict().keys()
    whole, few = dict(model.named_buffers()), dict(first.named_buffers())
    found: dict[str, torch.Tensor] = {}
    for name, described in shell.named_buffers():
        if name in stored:
            found[name] = whole[name].to("cpu", described.dtype)
        elif name in few and few[name].shape == described.shape:
            found[name] = few[name].cpu()
        elif not described.is_floating_point():  # it is the same in every format
            found[name] = whole[name].cpu()
        else:
            return None
    return found


def _check_finite(model: nn.Module) -> None:
    """Checks that a model's weights are numbers, which no probe of its first layers would show.

    Raises:
        ValueError: one is not.
    """
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ValueError(
                f"{type(model).__name__}'s weights hold NaN or infinity, for example in {name}; "
                "copy the model again"
            )
