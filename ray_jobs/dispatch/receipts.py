"""Receipts and errors on their way through a Ray generator, as both kinds of work handle them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.run_directory.units import Receipt
from orca2_gen.tasks.counts import READING, TaskCounts, task_of

LOST_WITHOUT_A_WORD = (NodeDiedError, OutOfMemoryError, LocalRayletDiedError)
"""Ray's errors if nothing that a process printed can say why it is gone."""
LOST = (RayActorError, WorkerCrashedError, *LOST_WITHOUT_A_WORD)
"""Ray's errors if a process or its node is gone, as opposed to errors raised in it."""

Advance = Callable[[Receipt], None]
Receipts = tuple[Receipt, ...]
"""Receipts that a process sends together."""
MESSAGES_AT_ONCE = 64
"""Messages read from one generator before the others are checked and all are committed."""


TOGETHER_SECONDS = 0.02
"""Seconds in which a receipt waits for others, to be sent with them."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """Row counts of a stage so far, including earlier drivers, and whether it may go on."""

    limits: DispatchConfig
    input: int = 0
    rejected: int = 0
    tasks: dict[str, TaskCounts] = field(default_factory=dict)
    """Counts of each task, in a stage that reads tasks; a good one does not hide a bad one."""

    def add(self, receipt: Receipt) -> None:
        self.input += receipt.taken_in
        self.rejected += receipt.counts["rejected"]
        if receipt.stage in READING:
            task = task_of(receipt)
            self.tasks.setdefault(task, TaskCounts(task=task)).add(receipt)

    def check(self, stage: str) -> None:
        """Stops a stage that rejects nearly everything, as a whole or of one task.

        Raises:
            TooManyRejections: the rate is above the limit, and more rows would be no better.
        """
        for task in self.tasks.values():
            if task.input >= self.limits.rejection_rows:
                check_task(task, stage, self.limits)
        if self.input >= self.limits.rejection_rows:
            what = f"{stage}: {self.rejected} of {self.input} rows were rejected"
            _check_rate(what, self.rejected / self.input, self.limits)


def check_task(
    task: TaskCounts, stage: str, limits: DispatchConfig, example: Callable[[], str] = str
) -> None:
    """Stops a stage that rejects nearly all rows of a task.

    Args:
        task: counts of the task, to its end or of enough rows.
        stage: stage in progress.
        limits: limits of the run.
        example: function that finds a rejection for the most frequent reason.

    Raises:
        TooManyRejections: see Tally.check.
    """
    if task.input and task.rejected / task.input > limits.max_rejection_rate:
        shown = f", most for {task.most_frequent}" if task.most_frequent else ""
        shown += f" ({detail})" if (detail := example()) else ""
        how_many = f"{task.rejected} of {task.input} rows were rejected"
        if not task.accepted:
            how_many = f"every row was rejected, {task.rejected} of {task.input}"
        what = f"{stage}: task {task.task!r}: {how_many}"
        _check_rate(what, task.rejected / task.input, limits, shown)


def _check_rate(what: str, rate: float, limits: DispatchConfig, shown: str = "") -> None:
    if rate > limits.max_rejection_rate:
        raise TooManyRejections(
            f"{what} ({rate:.1%}, max_rejection_rate is {limits.max_rejection_rate:.1%}){shown}; "
            f"their reasons are in rejections/, and they stay rejected in this run: fix the cause "
            f"and start another run_dir, or raise dispatch.max_rejection_rate and run the same "
            f"command again"
        )


async def done_together(tasks: Collection[asyncio.Task[Receipt]]) -> AsyncIterator[Receipts]:
    """The results of tasks as they come, as many at once as come within TOGETHER_SECONDS.

    Raises:
        Exception: what a task raised, after the results that came with it.
    """
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:  # each message to the driver costs as much as many receipts
            more, pending = await asyncio.wait(pending, timeout=TOGETHER_SECONDS)
            done |= more
        failed = [task for task in done if task.exception() is not None]
        if receipts := tuple(task.result() for task in done if task not in failed):
            yield receipts
        for task in failed:
            await task


def ready_refs(refs: list[Any], seconds: float) -> list[Any]:
    """All refs that have something now, else the first that has within `seconds`."""
    if not refs:
        return []
    found: list[Any] = ray.wait(refs, num_returns=len(refs), timeout=0.0)[0]
    return found or list(ray.wait(refs, timeout=seconds)[0])


def ready_receipts(generator: Any) -> Iterator[Receipt | None]:
    """The receipts that a ready generator has now, and None at its end.

    Raises:
        Exception: as next_receipts.
    """
    for _ in range(MESSAGES_AT_ONCE):
        receipts = next_receipts(generator)
        if receipts is None:
            yield None
            return
        yield from receipts
        # To ask it for more costs far less than another `ray.wait` over all generators.
        if not generator.next_ready():
            return


def next_receipts(generator: Any) -> Receipts | None:
    """The receipts of the generator's next message, or None at its end.

    Raises:
        Exception: the remote exception itself.
    """
    try:
        receipts: Receipts = ray.get(next(generator))
    except StopIteration:
        return None
    except RayTaskError as error:
        raise unwrapped(error) from None
    return receipts


def unwrapped(error: RayTaskError) -> Exception:
    """The remote exception if the user can fix it, else a RuntimeError of one line.

    The user can fix our own ValueErrors and the system's errors.
    """
    cause = error.cause
    module = type(cause).__module__
    ours = type(cause) is ValueError or module.startswith("orca2_gen.")
    if isinstance(cause, ValueError) and ours:
        return cause
    if isinstance(cause, OSError) and module == "builtins":
        return cause
    return RuntimeError(f"a Ray process raised {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """The last line of a Ray error, without Ray's frames and advice.

    It is the remote exception, or says how the process ended.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1].partition(" Some common causes include:")[0]
