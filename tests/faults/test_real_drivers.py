"""`orca2 run` as a process with real vLLM engines (faults 6, 40, 41).

One engine is killed for its memory, Ray does not end the processes of another, and there is no
network.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from ray_jobs.demo import CONFIG
from tests.faults.drivers import (
    OFFLINE,
    little_memory,
    run_driver,
    skip_without_network_namespaces,
    start_driver,
    wait_until,
)
from tests.faults.faulty import asked, happened, plant
from tests.faults.oracle import ACTORS, assert_sound, named, unused_segments
from tests.ray_jobs.test_real_engines import small

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROWS = 24


def assert_whole_but_texts(run_dir: Path, unused_before: set[Path], printed: str) -> None:
    """Asserts all but the sampled texts: these may depend on the batch, the problems may not."""
    assert_sound(run_dir, printed=printed, unused_before=unused_before)
    table = {stage: row for stage, *row in verify(run_dir).table}
    assert table["problems"] == [2 * ROWS, 2 * ROWS, 0, 0]
    assert table["rationales"][0] == 2 * ROWS


def test_40_a_real_engine_killed_for_its_memory_is_replaced_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    sets = small(run_dir, ROWS)
    unused_before = unused_segments()
    taken_mb = 6000
    plant(run_dir, allocate_mb=taken_mb)
    # Ray, the actor and EngineCore measured 2.5 GB; a kill before the fault would show nothing.
    limits = little_memory(taken_mb, used_mb=2500)
    code, printed = run_driver(CONFIG, run_dir, *sets, **limits)
    assert code == 0, printed
    assert happened(run_dir, "allocate_mb") == 1
    assert printed.count("engine 0 died") == 1, printed
    assert "memory" in next(line for line in printed.splitlines() if "engine 0 died" in line)
    assert_whole_but_texts(run_dir, unused_before, printed)


def test_6_enginecore_is_gone_where_ray_ends_no_process_group(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    sets = small(run_dir, ROWS)
    unused_before = unused_segments()
    plant(run_dir)
    process = start_driver(CONFIG, run_dir, *sets, RAY_process_group_cleanup_enabled="0")
    wait_until(process, lambda: len(asked(run_dir)) > 0)
    [actor] = named(*ACTORS)
    cores = named("VLLM::EngineCore")
    assert cores
    actor.kill()
    _, alive = psutil.wait_procs(cores, timeout=10)
    assert not alive
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert "engine 0 died" in printed
    assert max(receipt.attempt for receipt in read_ledger(run_dir).units.values()) > 1
    assert_whole_but_texts(run_dir, unused_before, printed)


def test_41_a_real_run_needs_no_network(tmp_path: Path) -> None:
    skip_without_network_namespaces()
    run_dir = tmp_path / "run"
    sets = small(run_dir, ROWS)
    unused_before = unused_segments()
    plant(run_dir)
    code, printed = run_driver(CONFIG, run_dir, *sets, through=OFFLINE)
    assert code == 0, printed
    assert_whole_but_texts(run_dir, unused_before, printed)
