"""Leases to Ray processes, receipts to the ledger: nothing here knows what is in a row.

Engines hold as many units at once as keep about twice their batch waiting, so they never drain
between leases. Where an engine dies, its open units become suspects (suspects.py) and run alone,
one at a time, on one engine, while the others go on. Only this loop commits: a receipt counts when
it comes from a lease that is open, and every turn commits what has come with one fsync.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.config_schema import DispatchConfig
from orca2_gen.endings import deferred_interrupts
from orca2_gen.ledger import Ledger, Receipt
from ray_jobs.leases import EngineUnit, FileLease, again
from ray_jobs.placement import reason_of
from ray_jobs.receipts import LOST, Advance, Tally, commit_receipts, next_receipt, ready_refs
from ray_jobs.replicas import Replica, Replicas
from ray_jobs.suspects import Suspects

TURN_SECONDS = 0.5
"""The longest wait for something to happen: signals, back-off and start limits are looked at in
between."""
LEASES_PER_ENGINE = 4
"""Units of an engine are cut into about so many leases, so that few calls carry many units."""

MAX_TASK_ATTEMPTS = 3
LAST_TURN_SECONDS = 1.0
"""After a signal: so long finished units are still taken in."""


def dispatch_tasks(
    ledger: Ledger,
    leases: Iterable[FileLease],
    submit: Callable[[FileLease], Any],
    in_flight: int,
    limits: DispatchConfig,
    advance: Advance,
) -> bool:
    """Runs each lease as a Ray task that yields receipts, and commits them as they come; whether a
    task was lost, and may have left files.

    Raises:
        TooManyRejections: see Tally.
        KeyboardInterrupt: a signal came; finished units are committed.
    """
    waiting = deque(leases)
    open_: dict[Any, FileLease] = {}
    has_lost = False
    tally = Tally(limits=limits)
    with deferred_interrupts() as interrupted:
        while (waiting or open_) and not interrupted():
            while waiting and len(open_) < in_flight:
                lease = waiting.popleft()
                open_[submit(lease)] = lease
            receipts = []
            for generator in ready_refs(list(open_), TURN_SECONDS):
                try:
                    receipt = next_receipt(generator)
                except LOST as error:
                    has_lost = True
                    waiting.append(_once_more(ledger, open_.pop(generator), error))
                    continue
                if receipt is None:
                    del open_[generator]
                else:
                    receipts.append(receipt)
            commit_receipts(ledger, receipts, tally, advance)
    return has_lost


def _once_more(ledger: Ledger, lease: FileLease, error: Exception) -> FileLease:
    """The lease of a task whose process or node was lost, to be run again."""
    if lease.attempt >= MAX_TASK_ATTEMPTS:
        raise RuntimeError(
            f"a task was lost {lease.attempt} times ({reason_of(error)}): {lease.what}"
        ) from error
    return again(lease, ledger)


@dataclass(kw_only=True, slots=True)
class EngineWork:
    """What is to be done on one model's engines, and how far it is."""

    ledger: Ledger
    replicas: Replicas
    units_per_engine: int
    """So many are open at once on an engine that is up."""
    limits: DispatchConfig
    advance: Advance
    waiting: deque[EngineUnit]
    suspects: Suspects = field(default_factory=Suspects)
    alone: Replica | None = None
    """The engine on which suspects run: it takes no other unit until there are none."""
    trial: Any = None
    """The generator of the suspect that runs on it now."""

    @property
    def is_done(self) -> bool:
        open_ = any(replica.open_ for replica in self.replicas.all)
        return not (self.waiting or self.suspects or open_)


def dispatch_engines(work: EngineWork) -> None:
    """Works all units off and commits their receipts.

    Raises:
        RuntimeError: too few engines are left.
        TooManyRejections: see Tally.
        ValueError: a unit cannot be worked on by any engine, or engines differ in version.
        KeyboardInterrupt: a signal came; finished units are committed, open ones dropped.
    """
    tally = Tally(limits=work.limits)
    ready: set[Any] = set()
    last = math.inf
    with deferred_interrupts() as interrupted:
        while not work.is_done:
            if interrupted():  # what is finished by now is still committed
                last = min(last, time.monotonic() + LAST_TURN_SECONDS)
                ready = _wait(work, 0.0)
                if not ready or time.monotonic() > last:
                    return
            else:
                work.replicas.settle(ready)
                _grant(work)
                ready = _wait(work, TURN_SECONDS)
            receipts: list[Receipt] = []
            died: dict[int, tuple[Replica, Exception]] = {}
            try:
                for replica in work.replicas.all:
                    for generator in [g for g in replica.open_ if g in ready]:
                        try:
                            receipt = next_receipt(generator)
                        except LOST as error:
                            died[replica.index] = replica, error
                            continue
                        if receipt is None:
                            del replica.open_[generator]
                        else:
                            receipts += _taken(work, replica, generator, receipt)
            finally:  # whatever happened to the others, these are done
                commit_receipts(work.ledger, receipts, tally, work.advance)
            for replica, reason in died.values():
                _bury(work, replica, reason)


def _wait(work: EngineWork, seconds: float) -> set[Any]:
    """Generators with something to read and engines that came up, as soon as there is one."""
    refs = [g for replica in work.replicas.all for g in replica.open_] + work.replicas.pending
    if not refs:  # every engine waits to be started again
        time.sleep(seconds)
    return set(ready_refs(refs, seconds))


def _grant(work: EngineWork) -> None:
    """Gives engines that are up what they have room for."""
    up = work.replicas.up
    work.alone = _elected(work, up)
    per_lease = max(1, work.units_per_engine // LEASES_PER_ENGINE)
    for replica in up:
        if replica is work.alone:
            if not replica.open_:
                work.trial = _open(replica, [work.suspects.next()])
            continue
        # One that has just died gets little until it has done something: what it holds when it
        # dies again must run alone.
        room = work.units_per_engine if not replica.deaths else 1
        while work.waiting and replica.num_open < room:
            num = min(per_lease, room, len(work.waiting))
            _open(replica, [work.waiting.popleft() for _ in range(num)])


def _elected(work: EngineWork, up: list[Replica]) -> Replica | None:
    """The engine that runs the suspects; None while there are none."""
    if not work.suspects:
        return None
    if work.alone is not None and not work.alone.is_given_up:
        idle = not work.waiting and any(not replica.open_ for replica in up)
        if work.alone.is_up or work.trial is not None or not idle:
            return work.alone
    return min(up, key=lambda replica: replica.num_open, default=None)


def _open(replica: Replica, units: list[EngineUnit]) -> Any:
    assert replica.engine is not None
    generator = replica.engine.actor.work.options(num_returns="streaming").remote(*units)
    replica.open_[generator] = {unit.name.unit: unit for unit in units}
    return generator


def _taken(work: EngineWork, replica: Replica, generator: Any, receipt: Receipt) -> list[Receipt]:
    """The receipts to be committed for one that came: itself, unless it is for a part of a unit."""
    unit = replica.open_[generator].pop(receipt.unit)
    if unit.part is None or not unit.part.is_merge:  # merging asks the engine nothing
        work.replicas.succeeded(replica)
    if generator is not work.trial:
        return [receipt]
    work.trial = None
    whole = work.suspects.survived(receipt)
    return [] if whole is None else [whole]


def _bury(work: EngineWork, replica: Replica, error: Exception) -> None:
    """Takes note of an engine's death and puts its units where they belong."""
    is_trial = work.trial is not None and work.trial in replica.open_
    units = work.replicas.died(replica, error, is_alone=is_trial)
    if is_trial:
        work.trial = None
        work.suspects.died()
        return
    for unit in units:
        work.suspects.add(unit)
