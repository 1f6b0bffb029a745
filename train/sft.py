"""The training loop, top to bottom: batches in, a trained student out.

    torchrun --nproc-per-node 2 -m train.sft CONFIG

Shapes: B rows of this rank, T tokens per row, H hidden size, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.batches import IGNORE_INDEX, Batch
from train.muon import Muon

LABELS_PER_CHUNK = 8192
"""Logits exist for so many tokens at a time: 8192 x 128k x 4 bytes = 4 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The learning rate: a linear warm-up, a plateau, then a decay to 0."""

    learning_rate: float
    num_steps: int
    warmup_fraction: float = 0.04
    decay: Literal["cosine", "linear"] = "cosine"
    decay_fraction: float = 1.0
    """Share of the steps, the last ones, over which it decays; of what the warm-up left, if more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """What one step did, over all ranks."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Mean cross entropy of the labelled tokens, before this step's update."""
    learning_rate: float
    grad_norm: float
    labelled_tokens: int
    tokens_per_second: float
    """Without padding."""
    fill: float
    """Tokens over slots."""


class LabelledLoss(nn.Module):
    """A causal language model with its loss: batch tensors -> summed cross entropy of the labels.

    Logits are computed at labelled positions only, and in chunks, since they are the largest tensor
    of all. It is a module so that FSDP's hooks on it see decoder and head as one forward call.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(
        self, input_ids_BT: torch.Tensor, labels_BT: torch.Tensor, position_ids_BT: torch.Tensor
    ) -> torch.Tensor:
        model: Any = self.model
        device = input_ids_BT.device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32):
            hidden_BTH = model.base_model(
                input_ids=input_ids_BT, position_ids=position_ids_BT, use_cache=False
            ).last_hidden_state
            # Token t is predicted at t - 1; an example's first token never has a label.
            labels_BS = labels_BT[:, 1:]
            labelled_BS = labels_BS != IGNORE_INDEX
            hidden_NH, labels_N = hidden_BTH[:, :-1][labelled_BS], labels_BS[labelled_BS]
            total = hidden_NH.new_zeros((), dtype=torch.float32)
            chunks = zip(
                hidden_NH.split(LABELS_PER_CHUNK), labels_N.split(LABELS_PER_CHUNK), strict=True
            )
            for hidden_CH, labels_C in chunks:
                if len(labels_N) > LABELS_PER_CHUNK:
                    total = total + checkpoint(
                        _cross_entropy, model.lm_head, hidden_CH, labels_C, use_reentrant=False
                    )
                else:
                    total = total + _cross_entropy(model.lm_head, hidden_CH, labels_C)
        return total


def _cross_entropy(head: nn.Module, hidden_NH: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    logits_NV = head(hidden_NH).float()
    return F.cross_entropy(logits_NV, labels_N, reduction="sum")


def learning_rate_at(schedule: Schedule, step: int) -> float:
    """The learning rate of the step after `step` steps."""
    warmup = max(1, round(schedule.warmup_fraction * schedule.num_steps))
    decay = min(round(schedule.decay_fraction * schedule.num_steps), schedule.num_steps - warmup)
    rate = schedule.learning_rate * min(1.0, (step + 1) / warmup)
    left = (schedule.num_steps - step) / max(1, decay)
    if left >= 1.0:
        return rate
    return rate * (left if schedule.decay == "linear" else 0.5 * (1.0 - math.cos(math.pi * left)))


def build_optimizers(
    model: nn.Module,
    *,
    optimizer: Literal["adamw", "muon"],
    learning_rate: float,
    weight_decay: float = 0.0,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's parameters: AdamW, or Muon for the matrices and AdamW for the rest.

    Muon's update is scaled to AdamW's root mean square, so that one learning rate fits both.
    """
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2 and id(p) not in embeddings]
    vectors = [p for p in parameters if p.ndim != 2]
    tables = [p for p in parameters if id(p) in embeddings]
    decayed = tables if optimizer == "muon" else tables + matrices
    adamw = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    if optimizer == "adamw":
        return [adamw]
    return [Muon(matrices, lr=learning_rate, weight_decay=weight_decay), adamw]


def fit(
    loss: LabelledLoss,
    batches: Iterator[Batch],
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    *,
    max_grad_norm: float = 1.0,
    start_step: int = 0,
    log: Callable[[StepMetrics], None] = lambda metrics: None,
    save: Callable[[int], None] = lambda step: None,
) -> None:
    """Trains in place from `start_step` to `schedule.num_steps`; `batches` begins at `start_step`.

    Args:
        log: called after every step, on every rank.
        save: called with the number of steps done after every step, on every rank.

    Raises:
        FloatingPointError: loss or gradients are not finite; the weights are those before this step.
    """
    parameters = [p for p in loss.parameters() if p.requires_grad]
    device = parameters[0].device
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    world_size = torch.distributed.get_world_size() if distributed else 1
    loss.train()
    batch = next(batches)
    for step in range(start_step, schedule.num_steps):
        started = time.perf_counter()
        rate = learning_rate_at(schedule, step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        counts = torch.tensor(
            [batch.num_labelled_tokens, batch.num_tokens, batch.labels_BT.numel()], device=device
        )
        if distributed:
            torch.distributed.all_reduce(counts)
        summed = loss(
            batch.input_ids_BT.to(device),
            batch.labels_BT.to(device),
            batch.position_ids_BT.to(device),
        )
        # FSDP averages gradients over the ranks; the loss is a mean over the labels of all ranks.
        (summed * (world_size / counts[0])).backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        total = summed.detach()
        if distributed:
            torch.distributed.all_reduce(total)
            grad_norm = grad_norm.full_tensor() if hasattr(grad_norm, "full_tensor") else grad_norm
        if step + 1 < schedule.num_steps:
            batch = next(batches)  # the host packs while the device still computes
        mean_loss, norm = torch.stack([total / counts[0], grad_norm.float()]).tolist()
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step + 1} of {schedule.num_steps}: loss {mean_loss}, gradient norm {norm}, learning rate "
                f"{rate:.3g}; the weights are still those of step {step}. Lower learning_rate or look at the data"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        num_labelled, num_tokens, num_slots = counts.tolist()
        log(
            StepMetrics(
                step=step + 1,
                loss=mean_loss,
                learning_rate=rate,
                grad_norm=norm,
                labelled_tokens=num_labelled,
                tokens_per_second=num_tokens / (time.perf_counter() - started),
                fill=num_tokens / num_slots,
            )
        )
        save(step + 1)
