"""One run directory under one driver: lock, ledger, progress, and the two ways to run leases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from orca2_gen.config import resolved
from orca2_gen.config_schema import Config, EngineConfig
from orca2_gen.ledger import Ledger, UnitName, read_ledger, record_stages, remove_unlisted
from orca2_gen.lock import lock_run, unlock_run
from orca2_gen.plan import stage_determinants, stage_keys
from ray_jobs.dispatch import (
    Advance,
    Pool,
    close_pool,
    dispatch_engines,
    dispatch_tasks,
    start_pool,
)
from ray_jobs.leases import EngineLease
from ray_jobs.placement import ray_instance

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
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall seconds spent in this process."""


@contextmanager
def open_run(config: Config, track: Track) -> Iterator[Run]:
    """A Run whose directory is locked and whose committed units fit the config, with Ray up."""
    run_dir = Path(config.run_dir).resolve()
    determinants = stage_determinants(config)
    keys = stage_keys(determinants)
    lock_run(run_dir)
    try:
        ledger = read_ledger(run_dir, writable=True)
        record_stages(run_dir, resolved(config), determinants, keys, ledger)
        remove_unlisted(ledger)
        with ray_instance():
            yield Run(config=config, run_dir=run_dir, ledger=ledger, keys=keys, track=track)
    finally:
        unlock_run(run_dir)


def unit_name(run: Run, stage: str, unit: str) -> UnitName:
    """The name of a unit as this run's config would make it."""
    return UnitName(stage=stage, stage_key=run.keys[stage], unit=unit)


def run_files(
    run: Run,
    stage: str,
    function: Callable[..., Any],
    leases: Sequence[Any],
    total: int | None = -1,
) -> None:
    started = time.monotonic()
    if leases:
        remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(function)
        config = ray.put(run.config)
        with run.track(stage, len(leases) if total == -1 else total) as advance:
            dispatch_tasks(
                run.ledger,
                leases,
                lambda lease: remote.remote(run.run_dir, config, lease),
                in_flight=max(2, int(ray.cluster_resources().get("CPU", 2))),
                advance=advance,
            )
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


def run_engines(
    run: Run, stage: str, engine: EngineConfig, leases: Sequence[EngineLease], requests: int
) -> None:
    """Works leases of about `requests` requests off on engines of one model, which end with the
    stage.
    """
    started = time.monotonic()
    if leases:
        leases_per_engine = 1 + 2 * engine.max_num_seqs // max(1, requests)
        with (
            run.track(stage, len(leases)) as advance,
            _engines(run, engine, leases_per_engine) as pool,
        ):
            dispatch_engines(run.ledger, leases, pool, leases_per_engine, advance)
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


@contextmanager
def _engines(run: Run, engine: EngineConfig, leases_per_engine: int) -> Iterator[Pool]:
    pool = start_pool(
        run.run_dir,
        engine,
        max_concurrency=2 * leases_per_engine,
        strategies=run.config.strategies,
        rationales=run.config.rationales,
        run_seed=run.config.run_seed,
    )
    try:
        yield pool
    finally:
        close_pool(pool)
