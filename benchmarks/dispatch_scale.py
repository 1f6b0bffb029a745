"""The rate of leases, receipts and durable commits that one driver handles, and its memory.

    python -m benchmarks.dispatch_scale --rows 5000000

Ray actors, dispatch loop and ledger are real; the actors answer each unit with a receipt at once,
without generating or writing rows, so only the driver's side is measured. The driver holds all that
it holds in a run of that many rows of one task: also the receipts of its problems and examples, and
the order in which they would be scored. A bare Ray loop with the same actors, as many open units,
leases of the same mean size and no dispatch is measured beside it, alternating. The last line is
one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.config.load import load_config
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import Group, permutation
from orca2_gen.strategies import load_strategies
from ray_jobs.cluster import ray_instance
from ray_jobs.dispatch.leases import EngineUnit, TeachUnit
from ray_jobs.dispatch.loop import TURN_SECONDS, dispatch
from ray_jobs.dispatch.receipts import (
    Receipts,
    Tally,
    done_together,
    ready_receipts,
    ready_refs,
)
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.placement import PlacedEngine
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.versions import Versions
from ray_jobs.engines.work import EngineWork

UNITS_PER_ENGINE = 64
CONFIG = Path(__file__).parent.parent / "ray_jobs" / "configs" / "microworld.toml"


class ReceiptActor:
    """An actor that answers like an EngineActor and needs no time."""

    def __init__(self) -> None:
        self._num_leases = 0

    async def num_leases(self) -> int:
        return self._num_leases

    async def placed(self) -> EnginePlace:
        return EnginePlace(node="", node_id="")

    async def ready(self) -> Versions:
        return ()

    async def work(self, *units: EngineUnit) -> AsyncIterator[Receipts]:
        self._num_leases += 1
        tasks = [asyncio.create_task(self._work_on(unit)) for unit in units]
        async for receipts in done_together(tasks):
            yield receipts

    async def _work_on(self, unit: EngineUnit) -> Receipt:
        return receipt_of(unit)

    async def close(self) -> None:
        pass


def receipt_of(unit: EngineUnit) -> Receipt:
    """A receipt as large as that of a unit of rationales."""
    assert isinstance(unit, TeachUnit)
    rows = unit.problems.rows
    path = f"rationales/{unit.name.unit}.a1-abcdef.arrow"
    return Receipt(
        stage=unit.name.stage,
        stage_key=unit.name.stage_key,
        unit=unit.name.unit,
        attempt=1,
        files=(FileEntry(path=path, rows=rows, bytes=123_456, sha256="0" * 64),),
        counts={
            "input": rows,
            "accepted": rows,
            "rejected": 0,
            "prompt_tokens": 100 * rows,
            "completion_tokens": 200 * rows,
            "cached_tokens": 0,
        },
    )


def units_of(num_units: int, rows_per_unit: int) -> Iterator[EngineUnit]:
    for index in range(num_units):
        path = f"problems/task-{index:06d}.a1-abcdef.arrow"
        entry = FileEntry(path=path, rows=rows_per_unit, bytes=123_456, sha256="0" * 64)
        name = UnitName(stage="rationales", stage_key="0" * 32, unit=f"task-{index:06d}")
        yield TeachUnit(name=name, problems=entry, selection=entry)


def dispatched(ledger: Ledger, units: list[EngineUnit], num_actors: int) -> tuple[float, int]:
    """Seconds in which dispatch finished and committed the units, and the number of its leases."""
    actor = ray.remote(num_cpus=0, max_concurrency=4 * UNITS_PER_ENGINE)(ReceiptActor)
    limits = DispatchConfig()
    replicas = Replicas(
        lambda index, node: PlacedEngine(actor=actor.remote()),
        num_actors,
        limits,
        lambda line: None,
    )
    replicas.settle()
    while len(replicas.working) < num_actors:
        replicas.settle(ray.wait(replicas.pending)[0])
    started = time.perf_counter()
    work = EngineWork(
        replicas=replicas,
        requests_per_engine=(UNITS_PER_ENGINE - 1) * units[0].num_requests,
        tally=Tally(limits=limits),
        advance=lambda receipt: None,
        waiting=deque(units),
    )
    dispatch(ledger, [work])
    seconds = time.perf_counter() - started
    actors = [replica.engine.actor for replica in replicas.all if replica.engine is not None]
    num_leases = sum(ray.get([actor.num_leases.remote() for actor in actors]))
    replicas.kill()
    return seconds, num_leases


def new_ledger(run_dir: Path) -> Ledger:
    run_dir.mkdir()
    return read_ledger(run_dir, writable=True)


def fill(ledger: Ledger, units: list[EngineUnit]) -> None:
    """Commits the problems that a run has when its teacher begins, and the later examples."""
    receipts = [receipt_of(unit) for unit in units]
    for stage in ("problems", "examples"):
        ledger.commit(dataclasses.replace(receipt, stage=stage) for receipt in receipts)


def bare(units: list[EngineUnit], num_actors: int, units_per_lease: int) -> float:
    """Seconds in which the same calls return the same receipts to a loop that does nothing else.

    It reads them as dispatch does: all that are ready, several of a generator at once.
    """
    actor = ray.remote(num_cpus=0, max_concurrency=4 * UNITS_PER_ENGINE)(ReceiptActor)
    actors = [actor.remote() for _ in range(num_actors)]
    ray.get([a.ready.remote() for a in actors])
    waiting = deque(units)
    open_: dict[Any, Any] = {}
    load = dict.fromkeys(range(num_actors), 0)
    started = time.perf_counter()
    while waiting or open_:
        for index, handle in enumerate(actors):
            while waiting and load[index] < UNITS_PER_ENGINE // units_per_lease:
                lease = [waiting.popleft() for _ in range(min(units_per_lease, len(waiting)))]
                open_[handle.work.options(num_returns="streaming").remote(*lease)] = index
                load[index] += 1
        for generator in ready_refs(list(open_), TURN_SECONDS):
            for receipt in ready_receipts(generator):
                if receipt is None:
                    load[open_.pop(generator)] -= 1
    seconds = time.perf_counter() - started
    for handle in actors:
        ray.kill(handle)
    return seconds


def commits_per_second(ledger: Ledger, units: list[EngineUnit]) -> float:
    """Durable commits per second, of one receipt each."""
    started = time.perf_counter()
    for unit in units:
        ledger.commit([receipt_of(unit)])
    return len(units) / (time.perf_counter() - started)


def peak_mb() -> float:
    """The most megabytes that this process has had resident."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1)


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rows-per-unit", type=int, default=250)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs of 4,000 units")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ray_instance():
        sample = list(units_of(4_000, arguments.rows_per_unit))
        ratios = []
        per_lease = 1
        for pair in range(arguments.pairs):
            ledger = new_ledger(Path(folder) / f"pair-{pair}")
            # The order within a pair reverses from pair to pair.
            first = bare(sample, arguments.actors, per_lease) if pair % 2 else None
            ours, num_leases = dispatched(ledger, sample, arguments.actors)
            per_lease = max(1, round(len(sample) / num_leases))
            ratios.append((first or bare(sample, arguments.actors, per_lease)) / ours)
        single = commits_per_second(new_ledger(Path(folder) / "commits"), sample[:500])
        before = peak_mb()
        units = list(units_of(arguments.rows // arguments.rows_per_unit, arguments.rows_per_unit))
        ledger = new_ledger(Path(folder) / "all")
        fill(ledger, units)
        group = Group(name="task", num_problems=arguments.rows, num_groups=1)
        rule = selection_rule(load_config(CONFIG, ["run_dir=unused"]), load_strategies(None))
        order = permutation(group, rule)
        seconds, num_leases = dispatched(ledger, units, arguments.actors)
        after = peak_mb()
        lines = (Path(folder) / "all" / "ledger.jsonl").read_bytes().count(b"\n")
    assert lines == 3 * len(units) == len(ledger.units) and order
    figures = {
        "leases_per_second": round(num_leases / seconds, 1),
        "receipts_per_second": round(len(units) / seconds, 1),
        "commits_per_second": round(single, 1),
        "rows_per_unit": arguments.rows_per_unit,
        "driver_mb": after,
        "driver_mb_before": before,
        "rows": len(units) * arguments.rows_per_unit,
        "over_bare_ray": round(statistics.median(ratios), 3),
        "over_bare_ray_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console(width=100).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
