"""Real vLLM engines that are killed, stopped and orphaned in one run (faults 3, 4, 5, 6)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from orca2_gen.config.load import load_config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.demo import CONFIG
from ray_jobs.engines.orphans import segments
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.faults.drivers import ROOT, wait_until
from tests.faults.oracle import (
    assert_no_segment_left,
    assert_nothing_runs,
    assert_sound,
    engine_processes,
    named,
    unused_segments,
)
from tests.ray_jobs.test_real_engines import small

pytestmark = [pytest.mark.engine, pytest.mark.slow]

STALL_SECONDS = 8.0


@dataclass
class Faulted:
    """A run through all faults, and the observations on the way."""

    run_dir: Path
    said: list[str] = field(default_factory=list)
    hit: dict[str, list[int]] = field(default_factory=dict)
    """Fault -> ids of the processes that it hit."""
    cores: set[int] = field(default_factory=set)
    """Process ids of the EngineCores that were there when a fault was applied."""
    orphans_seconds: float = -1.0
    """Seconds from the death of an actor to that of its EngineCore."""
    unused_before: set[Path] = field(default_factory=unused_segments)


def is_there_a_new_engine(run: Faulted) -> bool:
    """Whether an engine runs that no fault has hit: several receipts come at once, and the second
    fault would hit what the first has killed.
    """
    cores = {process.pid for process in named("VLLM::EngineCore")}
    return bool(cores) and not cores & run.cores


def strike(run: Faulted, fault: str) -> None:
    """Applies a fault to the engine processes that exist now."""
    run.cores |= {process.pid for process in named("VLLM::EngineCore")}
    if fault == "actor killed":
        [actor] = named("ray::EngineActor")
        cores = named("VLLM::EngineCore")
        run.hit[fault] = [actor.pid]
        actor.kill()
        started = time.monotonic()
        _, alive = psutil.wait_procs(cores, timeout=30)
        assert cores and not alive
        run.orphans_seconds = time.monotonic() - started
        return
    name, signum = {
        "EngineCore killed": ("VLLM::EngineCore", signal.SIGKILL),
        "EngineCore stopped": ("VLLM::EngineCore", signal.SIGSTOP),
        "worker killed": ("VLLM::Worker_TP1", signal.SIGKILL),
    }[fault]
    processes = named(name)
    run.hit[fault] = [process.pid for process in processes]
    for process in processes:
        os.kill(process.pid, signum)


PLAN = {
    ("scores", 1): "EngineCore killed",
    ("scores", 3): "EngineCore stopped",
    ("rationales", 1): "worker killed",
    ("rationales", 2): "actor killed",
}
"""(stage, fewest receipts before the fault) -> fault."""


@pytest.fixture(scope="module")
def faulted(tmp_path_factory: pytest.TempPathFactory) -> Faulted:
    run_dir = tmp_path_factory.mktemp("faulted") / "run"
    found = Faulted(run_dir=run_dir)
    sets = small(
        run_dir,
        24,
        "selection.block_size=4",
        "rows_per_unit=6",
        "student.max_num_seqs=8",
        "teacher.max_num_seqs=2",
        "teacher.tensor_parallel_size=2",
        f"dispatch.stall_seconds={STALL_SECONDS}",
        "dispatch.backoff_seconds=0.1",
    )
    counts: dict[str, int] = {}

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            counts[stage] = counts.get(stage, 0) + 1
            due = [
                fault
                for (at, least), fault in PLAN.items()
                if at == stage and least <= counts[stage] and fault not in found.hit
            ]
            if due and is_there_a_new_engine(found):
                strike(found, due[0])

        yield advance

    with open_run(load_config(CONFIG, sets), track, found.said.append) as run:
        run_all(run)
    return found


@pytest.mark.parametrize("fault", PLAN.values())
def test_3_to_6_every_fault_hit_an_engine_and_was_noticed(faulted: Faulted, fault: str) -> None:
    assert faulted.hit[fault]
    died = sum(" died with " in line for line in faulted.said)
    assert died >= len(PLAN), "\n".join(faulted.said)


def test_3_to_6_the_run_is_whole_and_every_problem_is_there_once(faulted: Faulted) -> None:
    assert_sound(
        faulted.run_dir, printed="\n".join(faulted.said), unused_before=faulted.unused_before
    )
    table = {stage: row for stage, *row in verify(faulted.run_dir).table}
    assert table["problems"] == [48, 48, 0, 0]
    assert table["rationales"][0] == 48
    ledger = read_ledger(faulted.run_dir)
    assert max(receipt.attempt for receipt in ledger.units.values()) > 1


def test_6_no_engine_outlives_its_actor_and_none_its_stage(faulted: Faulted) -> None:
    assert 0 <= faulted.orphans_seconds < 10
    assert_nothing_runs()
    assert_no_segment_left(faulted.unused_before)


def test_6_no_engine_outlives_a_killed_driver_and_its_own_ray(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    unused_before = unused_segments()
    words = [word for value in small(run_dir, 24) for word in ("--set", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "orca2_gen", "run", str(CONFIG), *words],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(process, lambda: segments() - unused_before != set())
    assert any("VLLM" in line for line in engine_processes())
    process.kill()
    process.communicate()
    assert_nothing_runs(seconds=10)
    assert_no_segment_left(unused_before)
