"""Faults of the cluster under a run (faults 10, 11, 15, 40, 41).

A node or the head is lost, memory or a disk is full, there is no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import psutil
import pytest
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from orca2_gen.exit_codes import FAILED
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun
from tests.faults.drivers import (
    OFFLINE,
    SOON_LOST,
    assert_one_reason,
    little_memory,
    run_driver,
    skip_without_network_namespaces,
    start_driver,
    wait_until,
)
from tests.faults.faulty import RESOURCE, asked, happened, plant
from tests.faults.oracle import assert_whole, snapshot

SLOW = {f"sums/train/s{n}": 0.5 for n in range(28)}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and two nodes with one each, all on this machine."""
    options = {"object_store_memory": 80_000_000}
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **options}
    )
    for _ in range(2):
        found.add_node(num_cpus=1, resources={"engines": 1}, **options)
    yield found
    found.shutdown()


def busy_nodes(cluster: Cluster, run_dir: Path) -> list[Any]:
    """The node of the engine that was asked last, if both live and it is not the head."""
    with suppress(IndexError, psutil.NoSuchProcess):
        raylet = psutil.Process(asked(run_dir)[-1][0]).ppid()
        return [
            node
            for node in cluster.worker_nodes
            if raylet in {each.process.pid for each in node.all_processes[PROCESS_TYPE_RAYLET]}
        ]
    return []


@pytest.mark.slow
def test_10_a_node_that_is_lost_with_its_engine_costs_no_row(
    undisturbed: FinishedRun, tmp_path: Path, cluster: Cluster
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(
        undisturbed.config_file,
        run_dir,
        "student.replicas=2",
        "teacher.replicas=2",
        address=cluster.address,
        **{RESOURCE: "engines"},
    )
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 0)
    wait_until(process, lambda: len(busy_nodes(cluster, run_dir)) == 1)
    [node] = busy_nodes(cluster, run_dir)
    cluster.remove_node(node, allow_graceful=False)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert " died with " in printed, "no engine was on the node that was lost"
    assert max(receipt.attempt for receipt in read_ledger(run_dir).units.values()) > 1
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


@pytest.mark.slow
def test_11_a_lost_head_ends_the_driver_and_the_run_goes_on_elsewhere(
    undisturbed: FinishedRun, tmp_path: Path, cluster: Cluster
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(
        undisturbed.config_file,
        run_dir,
        address=cluster.address,
        **SOON_LOST,
    )
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 0)
    cluster.head_node.kill_gcs_server()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == FAILED, printed
    assert_one_reason(printed)
    cluster.shutdown()
    before = snapshot(run_dir)
    plant(run_dir)
    code, again = run_driver(undisturbed.config_file, run_dir)
    assert code == 0, again
    assert_whole(run_dir, undisturbed.run_dir, printed=printed + again, before=before)


@pytest.mark.slow
def test_15_a_full_disk_of_rays_own_stops_no_run(undisturbed: FinishedRun, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    process = start_driver(undisturbed.config_file, run_dir, RAY_local_fs_capacity_threshold="0.01")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)
    # Ray names the folder of its own Ray by the process that started it.
    [logs] = Path(gettempdir(), "ray").glob(f"session_*_{process.pid}/logs")
    said = "".join(file.read_text(errors="replace") for file in logs.glob("raylet*"))
    assert "is over 1% full" in said, "Ray did not take its disk for full"


@pytest.mark.slow
def test_40_an_engine_killed_for_its_memory_is_replaced(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    taken_mb = 3000
    plant(run_dir, allocate_mb=taken_mb)
    code, printed = run_driver(undisturbed.config_file, run_dir, **little_memory(taken_mb))
    assert code == 0, printed
    assert happened(run_dir, "allocate_mb") == 1
    assert "engine 0 died" in printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


@pytest.mark.slow
def test_41_the_whole_generator_runs_where_there_is_no_network(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    skip_without_network_namespaces()
    run_dir = tmp_path / "run"
    plant(run_dir)
    code, printed = run_driver(undisturbed.config_file, run_dir, through=OFFLINE)
    assert code == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)
