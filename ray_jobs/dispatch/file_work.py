"""Leases that need no engine, each worked on by a Ray task that yields receipts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import FileLease
from ray_jobs.dispatch.receipts import LOST, Advance, Tally, ready_receipts, reason_of

MAX_TASK_ATTEMPTS = 3


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
