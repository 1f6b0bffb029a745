"""One run directory under one driver: lock, ledger, progress, and the two ways to run leases."""

from __future__ import annotations

import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from orca2_gen.config import resolved
from orca2_gen.config_schema import Config, EngineConfig
from orca2_gen.ledger import Ledger, UnitName, read_ledger, record_stages, remove_unlisted
from orca2_gen.lock import run_lock
from orca2_gen.plan import stage_determinants, stage_keys
from ray_jobs.dispatch import EngineWork, dispatch_engines, dispatch_tasks
from ray_jobs.leases import EngineUnit, FileLease
from ray_jobs.placement import (
    PlacedEngine,
    cluster_nodes,
    plan_lines,
    plan_placement,
    ray_instance,
    start_engine,
)
from ray_jobs.receipts import Advance
from ray_jobs.replicas import Replicas

Track = Callable[[str, int | None], AbstractContextManager[Advance]]
"""(stage, number of units or None) -> a context that shows progress; its value is called with each
receipt."""


@dataclass(kw_only=True, slots=True)
class Run:
    """One run directory under this driver's lock."""

    config: Config
    run_dir: Path
    ledger: Ledger
    keys: dict[str, str]
    """Stage -> its key."""
    track: Track
    say: Callable[[str], None]
    """Takes a line for people: engines that died, what is tried again."""
    driver: str
    """Hexadecimal, of this driver alone: in the name of every file that is written for it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall seconds spent in this process."""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def open_run(config: Config, track: Track, say: Callable[[str], None] = _say) -> Iterator[Run]:
    """A Run whose directory is locked and whose committed units fit the config, with Ray up."""
    run_dir = Path(config.run_dir).resolve()
    determinants = stage_determinants(config)
    keys = stage_keys(determinants)
    with run_lock(run_dir, say=say) as lock:
        ledger = read_ledger(run_dir, writable=True, fence=lock.check)
        for line in ledger.torn:
            say(line)
        record_stages(run_dir, resolved(config), determinants, keys, ledger)
        remove_unlisted(ledger)
        with ray_instance():
            for line in plan_lines(config):
                say(line)
            yield Run(
                config=config,
                run_dir=run_dir,
                ledger=ledger,
                keys=keys,
                track=track,
                say=say,
                driver=secrets.token_hex(3),
            )


def unit_name(run: Run, stage: str, unit: str) -> UnitName:
    """The name of a unit as this run's config would make it."""
    return UnitName(stage=stage, stage_key=run.keys[stage], unit=unit, driver=run.driver)


def run_files(
    run: Run,
    stage: str,
    function: Callable[..., Any],
    leases: Sequence[FileLease],
    total: int | None = -1,
) -> None:
    """Works leases that need no engine off as Ray tasks; `total` units are to come, None if
    unknown.
    """
    started = time.monotonic()
    if leases:
        remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(function)
        config = ray.put(run.config)
        with run.track(stage, len(leases) if total == -1 else total) as advance:
            has_lost = dispatch_tasks(
                run.ledger,
                leases,
                lambda lease: remote.remote(run.run_dir, config, lease),
                in_flight=max(2, int(ray.cluster_resources().get("CPU", 2))),
                limits=run.config.dispatch,
                advance=advance,
            )
        if has_lost:
            remove_unlisted(run.ledger)
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


def run_engines(
    run: Run, stage: str, engine: EngineConfig, units: Sequence[EngineUnit], requests: int
) -> None:
    """Works units of about `requests` requests off on engines of one model, which end with the
    stage.
    """
    started = time.monotonic()
    if units:
        # Twice the batch is open: one half generates, the other waits where the engine sees it.
        units_per_engine = 1 + 2 * engine.max_num_seqs // max(1, requests)
        with (
            run.track(stage, len(units)) as advance,
            _engines(run, engine, units_per_engine) as replicas,
        ):
            dispatch_engines(
                EngineWork(
                    ledger=run.ledger,
                    replicas=replicas,
                    units_per_engine=units_per_engine,
                    limits=run.config.dispatch,
                    advance=advance,
                    waiting=deque(units),
                )
            )
        if replicas.has_died:  # only now does nobody write any more
            remove_unlisted(run.ledger)
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


@contextmanager
def _engines(run: Run, engine: EngineConfig, units_per_engine: int) -> Iterator[Replicas]:
    """The engines of a model, all of them asked for; gone when the context ends."""
    placement = plan_placement(engine, cluster_nodes())

    def start(replica: int) -> PlacedEngine:
        return start_engine(
            engine,
            placement,
            replica,
            last_words=run.run_dir / f".engine-{replica}.last-words",
            # A lease may still be ending when the next one comes.
            max_concurrency=2 * units_per_engine + 2,
            run_dir=run.run_dir,
            strategies=run.config.strategies,
            rationales=run.config.rationales,
            run_seed=run.config.run_seed,
            stall_seconds=run.config.dispatch.stall_seconds,
            request_seconds=run.config.dispatch.request_seconds,
        )

    replicas = Replicas(start, engine.replicas, run.config.dispatch, run.say)
    try:
        yield replicas
    except KeyboardInterrupt:
        replicas.kill()
        raise
    finally:
        replicas.close()
