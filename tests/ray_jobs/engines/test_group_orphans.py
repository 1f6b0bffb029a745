"""Placement groups whose driver or raylet is killed, as a second client of the cluster sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import NUM_SUMS, FinishedRun
from tests.faults.drivers import ROOT, wait_until
from tests.faults.faulty import plant
from tests.faults.heads import ray_head
from tests.faults.oracle import assert_nothing_runs, assert_whole, engine_processes
from tests.ray_jobs.engines.grouped import RANKS
from tests.ray_jobs.engines.test_orphans import becomes_true, is_running

pytestmark = pytest.mark.slow

HELD = {f"sums/train/s{n}": "../go" for n in range(NUM_SUMS)}
"""Problems that wait for a file, so that the stage outlasts a client's look of some seconds."""
CLIENT = """
import json, sys, time
import ray
from ray.util import placement_group_table

address, wanted = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
end = time.monotonic() + 30
while time.monotonic() < end:
    groups = list(placement_group_table().values())
    if {group["state"] for group in groups} == {wanted}:
        break
    time.sleep(0.1)
print(json.dumps(groups))
"""


def start_grouped(
    config: Path, run_dir: Path, address: str, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    words = ["run", str(config), "--set", f"run_dir={run_dir}"]
    words += ["--set", "dispatch.backoff_seconds=0.1"]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ray_jobs.engines.grouped", *words],
        cwd=ROOT,
        env={**environment, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def groups(address: str, wanted: str, environment: Mapping[str, str]) -> list[dict[str, object]]:
    """The groups that a separate client finds, once all are in this state or the time is up."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, address, wanted],
        cwd=ROOT,
        env={**environment, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def scored(run_dir: Path) -> int:
    return len(read_ledger(run_dir).committed("scores")) if run_dir.exists() else 0


def test_the_group_of_a_killed_drivers_engine_is_removed(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, waits_for=HELD)
    with ray_head(tmp_path / "home") as head:
        address, environment = head.gcs_address, head.environment
        process = start_grouped(undisturbed.config_file, run_dir, address, environment)
        wait_until(process, lambda: scored(run_dir) > 0)
        [group] = groups(address, "CREATED", environment)
        assert group["state"] == "CREATED" and len(group["bundles"]) == RANKS  # type: ignore[arg-type]
        assert engine_processes()
        process.kill()
        process.communicate()
        [after] = groups(address, "REMOVED", environment)
        assert (after["placement_group_id"], after["state"]) == (
            group["placement_group_id"],
            "REMOVED",
        )
        assert_nothing_runs()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and three nodes with one each: a group takes two of them."""
    options = {"object_store_memory": 80_000_000}
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **options}
    )
    for _ in range(RANKS + 1):
        found.add_node(num_cpus=1, **options)
    yield found
    found.shutdown()


def test_an_engine_whose_raylet_is_killed_gets_a_new_group_on_other_nodes(
    undisturbed: FinishedRun, tmp_path: Path, cluster: Cluster
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, waits_for=HELD)
    address = cluster.address
    process = start_grouped(undisturbed.config_file, run_dir, address, os.environ)
    wait_until(process, lambda: scored(run_dir) > 0)
    [first] = groups(address, "CREATED", os.environ)
    assert len(set(first["bundles_to_node_id"].values())) == RANKS  # type: ignore[attr-defined]
    [line] = engine_processes()
    actor = psutil.Process(int(line.split()[0]))
    raylet = actor.parent()
    assert raylet is not None and raylet.name() == "raylet"
    raylet.kill()
    raylet.wait(timeout=10)  # its workers see its death once it is no zombie
    assert becomes_true(lambda: not is_running(actor.pid))
    (tmp_path / "go").touch()
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert "engine 0 died" in printed
    found = groups(address, "REMOVED", os.environ)
    assert first["placement_group_id"] in [group["placement_group_id"] for group in found]
    assert {group["state"] for group in found} == {"REMOVED"} and len(found) > 2
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)
