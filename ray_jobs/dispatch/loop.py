"""The loop between driver and processes: leases go out, receipts come in and are committed.

Nothing here knows the contents of a row. A receipt counts if it comes from an open lease, and every
turn commits all receipts that came, whatever their process, with one fsync.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.receipts import Advance, Tally, ready_refs
from ray_jobs.dispatch.signals import deferred_interrupts

TURN_SECONDS = 0.5
"""Seconds of the longest wait for an event; signals, back-off and start limits are checked in
between."""
LAST_TURN_SECONDS = 1.0
"""Seconds after a signal during which finished units are still taken in."""


class Work(Protocol):
    """Leases of one kind, and the processes that work on them: FileWork or EngineWork."""

    tally: Tally
    taken: list[Receipt]
    """Receipts that came and are not committed yet."""

    @property
    def advance(self) -> Advance:
        """The function to call with each committed receipt; it may hand more leases to any work."""

    @property
    def is_done(self) -> bool: ...

    @property
    def generators(self) -> list[Any]:
        """The generators of the open leases, which yield their receipts."""

    @property
    def refs(self) -> list[Any]:
        """All refs that `ray.wait` can wait for."""

    def grant(self, ready: Collection[Any]) -> None:
        """Hands out leases where there is room; `ready` are the refs with something to read."""

    def take(self, ready: Collection[Any]) -> None:
        """Reads the receipts of the generators that are ready into `taken`."""


def dispatch(
    ledger: Ledger, works: Sequence[Work], before_turn: Callable[[], None] = lambda: None
) -> None:
    """Runs all works to their end and commits their receipts.

    Raises:
        RuntimeError: a task was lost too often, or too few engines are left.
        TooManyRejections: see Tally.
        ValueError: no process can work on a lease, or engines differ in version.
        KeyboardInterrupt: a signal came; finished units are committed, open ones dropped.
    """
    ready: set[Any] = set()
    last = math.inf
    with deferred_interrupts() as interrupted:
        while not all(work.is_done for work in works):
            if interrupted():  # what is finished by now is still committed
                last = min(last, time.monotonic() + LAST_TURN_SECONDS)
                ready = set(ready_refs([g for work in works for g in work.generators], 0.0))
                if not ready or time.monotonic() > last:
                    break
            else:
                before_turn()
                for work in works:
                    work.grant(ready)
                ready = _wait(works)
            try:
                for work in works:
                    work.take(ready)
            finally:  # these are done, whatever happened to the others
                _commit(ledger, works)
        ledger.write_tip()


def _wait(works: Sequence[Work]) -> set[Any]:
    """The refs with something to read, as soon as there is one."""
    refs = [ref for work in works for ref in work.refs]
    if not refs:  # every engine waits to be started again
        time.sleep(TURN_SECONDS)
    return set(ready_refs(refs, TURN_SECONDS))


def _commit(ledger: Ledger, works: Sequence[Work]) -> None:
    """Commits all taken receipts with one fsync, counts them and shows progress.

    Raises:
        TooManyRejections: see Tally; the receipts are committed all the same.
    """
    taken = [(work, receipt) for work in works for receipt in work.taken]
    if not taken:
        return
    ledger.commit([receipt for _, receipt in taken])
    for work, receipt in taken:
        work.tally.add(receipt)
        work.advance(receipt)
    for work in works:
        if work.taken:
            work.tally.check(work.taken[-1].stage)
            work.taken = []
