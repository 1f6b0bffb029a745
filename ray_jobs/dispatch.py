"""Leases to Ray processes, receipts to the ledger: nothing here knows what is in a row.

Engines get as many leases at once as keep about twice their batch waiting, so they never drain
between leases. An engine whose process dies is started again, a bounded number of times, and its
open leases go out anew with the next attempt number; what it had committed stays.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from orca2_gen.config_schema import EngineConfig
from orca2_gen.ledger import Ledger, Receipt
from ray_jobs.engine_actor import EngineActor
from ray_jobs.leases import EngineLease, Lease
from ray_jobs.placement import actor_environment, actor_options, on_this_machine

MAX_ENGINE_STARTS = 3
COMMIT_AT_MOST = 64
"""Receipts of one fsync."""

Advance = Callable[[Receipt], None]


@dataclass(kw_only=True, slots=True)
class Pool:
    """The engines of one model, and what makes a new one."""

    start: Callable[[int], Any]
    """replica -> a new actor."""
    actors: list[Any] = field(default_factory=list)
    starts: int = 0


def dispatch_tasks(
    ledger: Ledger,
    leases: Iterable[Lease],
    submit: Callable[[Lease], Any],
    in_flight: int,
    advance: Advance,
) -> None:
    """Runs each lease as a Ray task that yields receipts, and commits them as they come."""
    waiting = deque(leases)
    open_: list[Any] = []
    while waiting or open_:
        while waiting and len(open_) < in_flight:
            open_.append(submit(waiting.popleft()))
        ready, _ = ray.wait(open_, num_returns=1)
        for generator in ready:
            receipt = _next(generator)
            if receipt is None:
                open_.remove(generator)
            else:
                ledger.commit([receipt])
                advance(receipt)


def dispatch_engines(
    ledger: Ledger,
    leases: Sequence[EngineLease],
    pool: Pool,
    leases_per_engine: int,
    advance: Advance,
) -> None:
    """Works the leases off on the pool's engines and commits their receipts.

    Raises:
        RuntimeError: engines died more often than MAX_ENGINE_STARTS allows.
    """
    waiting: deque[EngineLease] = deque(leases)
    open_: dict[Any, tuple[int, EngineLease]] = {}
    load = [0] * len(pool.actors)
    while waiting or open_:
        while waiting and min(load) < leases_per_engine:
            replica = load.index(min(load))
            lease = waiting.popleft()
            open_[pool.actors[replica].work.options(num_returns="streaming").remote(lease)] = (
                replica,
                lease,
            )
            load[replica] += 1
        ready, _ = ray.wait(list(open_), num_returns=min(len(open_), COMMIT_AT_MOST), timeout=0.0)
        ready = ready or ray.wait(list(open_), num_returns=1)[0]
        died: dict[int, RayActorError] = {}
        receipts: list[Receipt] = []
        try:
            for generator in ready:
                replica, _ = open_[generator]
                try:
                    receipt = _next(generator)
                except RayActorError as error:
                    died[replica] = error
                    continue
                if receipt is None:
                    del open_[generator]
                    load[replica] -= 1
                else:
                    receipts.append(receipt)
        finally:  # whatever happened to the others, these are done
            ledger.commit(receipts)
        for receipt in receipts:
            advance(receipt)
        for replica, reason in died.items():
            lost = [open_.pop(g)[1] for g, (r, _) in list(open_.items()) if r == replica]
            waiting.extendleft(_again(x) for x in reversed(lost) if not _committed(ledger, x))
            load[replica] = 0
            pool.actors[replica] = restart(pool, replica, reason)


def start_pool(run_dir: Path, config: EngineConfig, *, max_concurrency: int, **texts: Any) -> Pool:
    """A Pool with config.replicas engines, all of them up.

    Args:
        run_dir: where the engines read problems and write units.
        config: of each engine.
        max_concurrency: leases one engine may hold at once.
        texts: EngineActor's further keywords.

    Raises:
        RuntimeError: an engine cannot start; the engine's own reason is in the message.
    """

    def start(replica: int) -> Any:
        placed = on_this_machine(config, replica)
        remote = ray.remote(**actor_options(placed, max_concurrency))(EngineActor)
        return remote.options(runtime_env={"env_vars": actor_environment(placed)}).remote(
            run_dir, placed, **texts
        )

    pool = Pool(
        start=start,
        actors=[start(replica) for replica in range(config.replicas)],
        starts=config.replicas,
    )
    try:
        for replica, actor in enumerate(pool.actors):
            try:
                ray.get(actor.ready.remote())
            except RayActorError as error:
                pool.actors[replica] = restart(pool, replica, error)
    except BaseException:
        close_pool(pool)
        raise
    return pool


def restart(pool: Pool, replica: int, error: Exception) -> Any:
    """A new actor for a replica that died."""
    while pool.starts < MAX_ENGINE_STARTS * max(1, len(pool.actors)):
        pool.starts += 1
        actor = pool.start(replica)
        try:
            ray.get(actor.ready.remote())
            return actor
        except RayActorError as again:
            error = again
    raise RuntimeError(f"an engine died {pool.starts} times; the last reason: {reason_of(error)}")


def close_pool(pool: Pool) -> None:
    """Ends the engines; when it returns, their processes and devices are free."""
    for actor in pool.actors:
        # One that is dead already, or does not answer, is killed all the same.
        with suppress(RayActorError, GetTimeoutError):
            ray.get(actor.close.remote(), timeout=10)
        ray.kill(actor)


def reason_of(error: Exception) -> str:
    """The last line of a Ray error: the exception that was raised far away, without Ray's
    frames.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _next(generator: Any) -> Receipt | None:
    """The generator's next receipt, or None at its end; the remote exception itself where one was
    raised.
    """
    try:
        receipt: Receipt = ray.get(next(generator))
    except StopIteration:
        return None
    except RayTaskError as error:
        raise unwrapped(error) from None
    return receipt


def unwrapped(error: RayTaskError) -> Exception:
    """Our own ValueError, where one was raised far away; else the error with its remote trace."""
    cause = error.cause
    ours = type(cause) is ValueError or type(cause).__module__.startswith("orca2_gen.")
    return cause if isinstance(cause, ValueError) and ours else error


def _committed(ledger: Ledger, lease: EngineLease) -> bool:
    return (lease.name.stage, lease.name.unit) in ledger.units


def _again(lease: EngineLease) -> EngineLease:
    return dataclasses.replace(
        lease, name=dataclasses.replace(lease.name, attempt=lease.name.attempt + 1)
    )
