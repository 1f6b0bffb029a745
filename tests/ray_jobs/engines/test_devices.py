"""GPUs that others hold, that are broken, or that come late (gpus.py has the scenarios)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def played(scenario: str) -> dict[str, Any]:
    driver = subprocess.run(
        [sys.executable, "-m", "tests.ray_jobs.engines.gpus", scenario],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert driver.returncode == 0, driver.stderr
    found: dict[str, Any] = json.loads(driver.stdout.splitlines()[-1])
    return found


def test_engines_wait_for_gpus_that_another_job_holds_and_say_so() -> None:
    found = played("held")
    assert found["plan"] == [
        "student: other jobs hold GPUs, so 0 of 2 engines can start now and the rest wait; "
        "free GPUs now: none"
    ]
    assert not found["came"] and found["up"]
    assert found["said"] == ["engines 0, 1 wait for 1 GPU each; free GPUs now: none"], (
        "they waited twice as long as a start may take, and no start failed"
    )


def test_a_gpu_on_which_an_engine_failed_is_left_out_while_there_is_another() -> None:
    found = played("broken_gpu")
    assert len(found["student"]) == 1 and "0" not in found["student"]
    assert found["teacher"] == ["1", "2"], "the broken GPU was handed to the teacher"
    assert found["all"] == ["0", "1", "2"] and found["failed"] == 0
    assert any(
        f"leaves out GPU 0 of {found['host']}, where an engine failed" in line
        for line in found["said"]
    )


def test_a_replica_that_was_given_up_is_tried_on_another_node() -> None:
    found = played("broken_node")
    assert found["up"] and found["moved"], found["said"]
    assert any("is tried on" in line for line in found["said"])


def test_a_node_that_joins_is_used_within_a_minute_and_a_cluster_without_a_cpu_is_refused() -> None:
    found = played("joined_node")
    assert found["one"] and found["waits"] and found["both"]
    assert found["seconds"] < 60
    assert any(line.startswith("engine 1 waits for 1 GPU; ") for line in found["said"]) or any(
        line.startswith("engine 0 waits for 1 GPU; ") for line in found["said"]
    )
    assert "has a CPU for Ray's tasks" in found["refusal"]
