"""The optimizers of a model's parameters, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from train.moments import CompactAdamW
from train.muon import Muon

_BETAS = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The learning rate: a linear warm-up, a plateau, then a decay to 0, or none."""

    learning_rate: float
    num_steps: int
    warmup_fraction: float = 0.04
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    decay_fraction: float = 1.0
    """Share of the steps, at their end, over which it decays; at most the share after warm-up."""


def learning_rate_at(schedule: Schedule, step: int) -> float:
    """The learning rate of the step that follows `step` steps."""
    warmup = max(1, round(schedule.warmup_fraction * schedule.num_steps))
    decay = min(round(schedule.decay_fraction * schedule.num_steps), schedule.num_steps - warmup)
    rate = schedule.learning_rate * min(1.0, (step + 1) / warmup)
    left = (schedule.num_steps - step) / max(1, decay)
    if left >= 1.0 or schedule.decay == "constant":
        return rate
    return rate * (left if schedule.decay == "linear" else 0.5 * (1.0 - math.cos(math.pi * left)))


def build_optimizers(
    model: nn.Module,
    *,
    optimizer: Literal["adamw", "muon"],
    learning_rate: float,
    weight_decay: float = 0.0,
    moments_dtype: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model: AdamW, or Muon for the matrices and AdamW for the rest.

    Muon's update is scaled to AdamW's root mean square, so that one learning rate fits both.
    """
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    embeddings = {id(parameter) for table in tables for parameter in table.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    kernels = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d)
        for parameter in module.parameters()
    }
    others = embeddings | kernels
    # Experts are matrices that lie in one tensor, one behind the other.
    matrices = [p for p in parameters if p.ndim in (2, 3) and id(p) not in others]
    known = {id(p) for p in matrices}
    rest = [p for p in parameters if p.ndim >= 2 and id(p) not in known]
    vectors = [p for p in parameters if p.ndim < 2]
    decayed = rest if optimizer == "muon" else rest + matrices
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw: torch.optim.Optimizer
    if moments_dtype == torch.float32:
        adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS, fused=True)
    else:
        adamw = CompactAdamW(groups, lr=learning_rate, betas=_BETAS, dtype=moments_dtype)
    if optimizer == "adamw":
        return [adamw]
    muon = Muon(matrices, lr=learning_rate, weight_decay=weight_decay, momentum_dtype=moments_dtype)
    return [muon, adamw]


def forget(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Empties what optimizers remember of earlier steps."""
    for optimizer in optimizers:
        optimizer.state.clear()
