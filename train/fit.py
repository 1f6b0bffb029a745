"""The training loop: batches in, trained weights and a line of metrics per step out.

The ranks share the rows of a step, weights and optimizer state may be sharded over them (FSDP2),
and the loss is a mean over the labelled tokens of all ranks: their number changes no result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from train.batches import Batch
from train.loss import LabelledLoss
from train.optimizers import Schedule, learning_rate_at
from train.ranks import is_distributed, world_size


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """The figures of one step, over all ranks."""

    step: int
    """Steps done, including this one."""
    loss: float
    """Mean cross entropy of the labelled tokens, before this step's update."""
    learning_rate: float
    grad_norm: float
    labelled_tokens: int
    tokens_per_second: float
    """Tokens per second, without padding."""
    fill: float
    """Tokens over slots."""


def fit(
    loss: LabelledLoss,
    batches: Iterator[Batch],
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    *,
    max_grad_norm: float = 1.0,
    start_step: int = 0,
    rows_per_forward: int | None = None,
    log: Callable[[StepMetrics], None] = lambda metrics: None,
    save: Callable[[int], None] = lambda step: None,
) -> None:
    """Trains in place from `start_step` to `schedule.num_steps`; `batches` begins at `start_step`.

    Args:
        loss: the model with its loss, sharded if there are several ranks.
        batches: this rank's rows of each step.
        optimizers: optimizers of the parameters of `loss`.
        schedule: sets the learning rate of every group.
        max_grad_norm: gradients are scaled down to this norm.
        start_step: steps already done.
        rows_per_forward: rows of one forward pass; gradients add up over a step's passes.
        log: called after every step, on every rank.
        save: called after every step, on every rank, with the number of steps done.

    Raises:
        FloatingPointError: loss or gradients are not finite; the weights stay as before this step.
    """
    parameters = [p for p in loss.parameters() if p.requires_grad]
    device = parameters[0].device
    loss.train()
    batch = next(batches)
    for step in range(start_step, schedule.num_steps):
        started = time.perf_counter()
        rate = learning_rate_at(schedule, step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        num_slots = batch.labels_BT.numel()
        counts = torch.tensor([batch.num_labelled_tokens, batch.num_tokens, num_slots]).to(device)
        if is_distributed():
            torch.distributed.all_reduce(counts)
        num_labelled = counts[0].clamp(min=1)
        total = torch.zeros((), device=device)
        for tensors in zip(
            *(
                tensor.to(device, non_blocking=True).split(rows_per_forward or len(tensor))
                for tensor in (batch.input_ids_BT, batch.labels_BT, batch.position_ids_BT)
            ),
            strict=True,
        ):
            summed = loss(*tensors)
            # FSDP averages the gradients over the ranks, and the loss is a mean over their labels.
            (summed * (world_size() / num_labelled)).backward()
            total += summed.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if is_distributed():
            torch.distributed.all_reduce(total)
            grad_norm = grad_norm.full_tensor()
        if step + 1 < schedule.num_steps:
            batch = next(batches)  # the host packs while the device still computes
        mean_loss, norm = torch.stack([total / num_labelled, grad_norm.float()]).tolist()
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step + 1} of {schedule.num_steps}: loss {mean_loss}, gradient norm {norm}, "
                f"learning rate {rate:.3g}; the weights are still those of step {step}; "
                f"lower learning_rate or check the data"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        labelled_tokens, num_tokens, num_slots = counts.tolist()
        log(
            StepMetrics(
                step=step + 1,
                loss=mean_loss,
                learning_rate=rate,
                grad_norm=norm,
                labelled_tokens=labelled_tokens,
                tokens_per_second=num_tokens / (time.perf_counter() - started),
                fill=num_tokens / num_slots,
            )
        )
        save(step + 1)
