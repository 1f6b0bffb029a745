"""Leases that need no engine, each worked on by a Ray task that yields receipts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import ray

from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import FileLease
from ray_jobs.dispatch.receipts import LOST, Advance, Tally, ready_receipts, reason_of

MAX_TASK_ATTEMPTS = 3
QUIET_SECONDS = 30.0
"""Seconds without a receipt, or since the last line about it, after which a line says so if the
cluster has no free CPU."""


@dataclass(kw_only=True, slots=True)
class FileWork:
    """File leases and the tasks that work on them: a Work of dispatch/loop.py."""

    ledger: Ledger
    submit: Callable[[FileLease], Any]
    """Function that starts the task of a lease and returns its generator."""
    in_flight: int
    tally: Tally
    advance: Advance
    waiting: deque[FileLease]
    say: Callable[[str], None]
    """Function that takes a line for people."""
    heard: float = field(default_factory=time.monotonic)
    """Time of time.monotonic of the last receipt, or of the last line that none came."""
    open_: dict[Any, FileLease] = field(default_factory=dict)
    taken: list[Receipt] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self.open_)

    @property
    def generators(self) -> list[Any]:
        return list(self.open_)

    @property
    def refs(self) -> list[Any]:
        return self.generators

    def grant(self, ready: Collection[Any]) -> None:
        while self.waiting and len(self.open_) < self.in_flight:
            lease = self.waiting.popleft()
            self.open_[self.submit(lease)] = lease
        if self.open_ and time.monotonic() - self.heard > QUIET_SECONDS:
            self.heard = time.monotonic()
            self._tell_if_taken()

    def _tell_if_taken(self) -> None:
        """Says that all CPUs are taken, if they are: tasks that wait for one show nothing."""
        if ray.available_resources().get("CPU", 0.0) < 1.0:
            total = ray.cluster_resources().get("CPU", 0.0)
            self.say(
                f"{next(iter(self.open_.values())).what}, {len(self.open_)} tasks open: nothing "
                f"came for {QUIET_SECONDS:.0f} s, and all {total:.0f} CPUs of the cluster are "
                "taken, by these tasks or by other jobs"
            )

    def take(self, ready: Collection[Any]) -> None:
        """See Work.

        Raises:
            RuntimeError: a task was lost MAX_TASK_ATTEMPTS times.
        """
        for generator in [g for g in self.open_ if g in ready]:
            try:
                for receipt in ready_receipts(generator):
                    if receipt is None:
                        del self.open_[generator]
                    else:
                        self.taken.append(receipt)
                        self.heard = time.monotonic()
            except LOST as error:
                left = self._left(self.open_.pop(generator), error)
                if left is not None:
                    self.waiting.append(left)

    def _left(self, lease: FileLease, error: Exception) -> FileLease | None:
        """The lease of what is left after a process or node was lost; None if nothing is."""
        if lease.attempt >= MAX_TASK_ATTEMPTS:
            raise RuntimeError(
                f"a task was lost {lease.attempt} times ({reason_of(error)}): {lease.what}"
            ) from error
        # Receipts that came just before the loss are committed in this turn.
        taken = {(receipt.stage, receipt.unit): receipt for receipt in self.taken}
        return lease.again({**self.ledger.units, **taken})
