"""The training loop: batches in, trained weights and a line of metrics per step out.

The ranks share the rows of a step, weights and optimizer state may be sharded over them (FSDP2),
and the loss is a mean over the labelled tokens of all ranks: their number changes no result.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from train.batches import IGNORE_INDEX, Batch, ForwardPass
from train.loss import LabelledLoss
from train.optimizers import Schedule, learning_rate_at
from train.ranks import is_distributed, world_size


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """The figures of one step, over all ranks."""

    step: int
    """Steps done, including this one."""
    loss: float | None
    """Mean cross entropy of the labelled tokens, before this step's update; None if the step is
    skipped."""
    learning_rate: float
    grad_norm: float | None
    labelled_tokens: int
    tokens_per_second: float
    """Tokens per second, without padding."""
    fill: float
    """Tokens over slots."""
    seconds: float
    mfu: float | None
    """Share of the device's peak, see `flops`; None where the peak is not known."""
    memory_mb: float
    """Most memory so far, of rank 0: what its GPU held, or the process without one."""
    held_out: Mapping[str, float] | None = None
    """Task -> loss of examples that are not trained on, after this step's update."""


class NotFiniteError(FloatingPointError):
    """A step whose loss or gradient is no number; the weights are still those before it."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step
        """Counted from 1."""


def fit(
    loss: LabelledLoss,
    batches: Iterator[Batch],
    optimizers: Sequence[torch.optim.Optimizer],
    schedule: Schedule,
    *,
    max_grad_norm: float = 1.0,
    gradient_sync: Literal["every_pass", "last_pass"] = "every_pass",
    start_step: int = 0,
    first_step: int = 0,
    skip_steps: Collection[int] = (),
    wishes: Callable[[int], tuple[bool, bool]] = lambda step: (False, False),
    mfu: Callable[[int, int, float], float | None] = lambda tokens, squares, seconds: None,
    held_out: Callable[[int], Mapping[str, float] | None] = lambda step: None,
    log: Callable[[StepMetrics], None] = lambda metrics: None,
    save: Callable[[int], None] = lambda step: None,
) -> tuple[int, bool]:
    """The steps done, and whether a rank wanted to stop, after training in place from `start_step`.

    Without such a wish it goes on to `schedule.num_steps`.

    Args:
        loss: the model with its loss, sharded if there are several ranks.
        batches: this rank's rows of each step, from `start_step` on.
        optimizers: optimizers of the parameters of `loss`.
        schedule: sets the learning rate of every group.
        max_grad_norm: gradients are scaled down to this norm.
        gradient_sync: passes of a step after which ranks exchange gradients.
        start_step: steps already done.
        first_step: steps of earlier stages; the steps that others see are counted from there.
        skip_steps: steps, as others see them, whose batch changes nothing.
        wishes: whether this rank wants, after a step, to save and to stop.
        mfu: tokens, squared lengths of examples and seconds of a step -> share of the peak.
        held_out: called after every step, on every rank; the losses of other examples, if any.
        log: called after every step, on every rank.
        save: called on every rank with the steps done, after each step where one wants it.

    Raises:
        NotFiniteError: loss or gradients are not finite; the weights stay as before this step.
    """
    parameters = [p for p in loss.parameters() if p.requires_grad]
    device = parameters[0].device
    loss.train()
    end = first_step + schedule.num_steps
    batch = next(batches)
    for step in range(start_step, schedule.num_steps):
        started = time.perf_counter()
        number = first_step + step + 1
        rate = learning_rate_at(schedule, step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        counts = torch.tensor(
            [
                *(batch.num_labelled_tokens, batch.num_tokens, batch.num_slots),
                *(batch.sum_of_squares, *wishes(number)),
            ]
        ).to(device)
        if is_distributed():
            torch.distributed.all_reduce(counts)
        is_skipped = number in skip_steps
        num_labelled = counts[0].clamp(min=1)
        total = torch.zeros((), device=device)
        for row, is_final in () if is_skipped else _with_the_last(passes_on(batch, device)):
            if gradient_sync == "last_pass" and isinstance(loss, FSDPModule):
                loss.set_requires_gradient_sync(is_final)
            summed = loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT)
            # FSDP averages the gradients over the ranks, and the loss is a mean over their labels.
            (summed * (world_size() / num_labelled)).backward()
            total += summed.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if is_distributed():
            torch.distributed.all_reduce(total)
            if isinstance(grad_norm, DTensor):
                grad_norm = grad_norm.full_tensor()
        if step + 1 < schedule.num_steps:
            batch = next(batches)  # the host packs while the device still computes
        mean_loss, norm = torch.stack(
            [total / num_labelled, grad_norm.float().to(device)]  # on a CPU if nothing has one
        ).tolist()
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            raise NotFiniteError(
                number,
                f"step {number} of {end}: loss {mean_loss}, gradient norm {norm}, learning rate "
                f"{rate:.3g}; the weights are still those of step {number - 1}",
            )
        if not is_skipped:
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        labelled_tokens, num_tokens, num_slots, squares, is_due, is_last = counts.tolist()
        seconds = time.perf_counter() - started
        log(
            StepMetrics(
                step=number,
                loss=None if is_skipped else mean_loss,
                learning_rate=rate,
                grad_norm=None if is_skipped else norm,
                labelled_tokens=labelled_tokens,
                tokens_per_second=num_tokens / seconds,
                fill=num_tokens / num_slots,
                seconds=seconds,
                mfu=mfu(num_tokens, squares, seconds),
                memory_mb=memory_mb(device),
                held_out=held_out(number),
            )
        )
        if is_due or is_last:
            save(number)
        if is_last:
            return number, True
    return end, False


def _with_the_last(passes: Iterator[ForwardPass]) -> Iterator[tuple[ForwardPass, bool]]:
    """Each pass, and whether it is the last."""
    following = next(passes, None)
    while following is not None:
        current, following = following, next(passes, None)
        yield current, following is None


def passes_on(batch: Batch, device: torch.device) -> Iterator[ForwardPass]:
    """The passes of a step on the device, as many on each rank.

    Sharded layers gather their weights together, so a rank with fewer passes joins in the others
    with a row that has no label.
    """
    num_passes = torch.tensor(len(batch.passes), device=device)
    if is_distributed():
        torch.distributed.all_reduce(num_passes, torch.distributed.ReduceOp.MAX)
    nothing = torch.zeros(1, 2, dtype=torch.int64)
    empty = ForwardPass(
        input_ids_BT=nothing,
        labels_BT=torch.full_like(nothing, IGNORE_INDEX),
        position_ids_BT=torch.arange(2).unsqueeze(0),
    )
    padding = [empty] * (int(num_passes) - len(batch.passes))
    for each in (*batch.passes, *padding):
        yield ForwardPass(
            input_ids_BT=each.input_ids_BT.to(device, non_blocking=True),
            labels_BT=each.labels_BT.to(device, non_blocking=True),
            position_ids_BT=each.position_ids_BT.to(device, non_blocking=True),
        )


def memory_mb(device: torch.device) -> float:
    """The most megabytes so far that a GPU held for us, or that this process had without one."""
    if device.type == "cuda":
        return round(int(torch.cuda.max_memory_allocated(device)) / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
