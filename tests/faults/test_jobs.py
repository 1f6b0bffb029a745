"""Runs as jobs on a cluster of `ray start`: killed, stopped, with and without a token.

Also the death of the raylet (fault 9, and the raylet of fault 6).
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from orca2_gen.exit_codes import FAILED, INTERRUPTED, USAGE
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import write_run_config
from tests.faults.drivers import ROOT, SOON_LOST, assert_one_reason, wait_until
from tests.faults.heads import Head, ray_head
from tests.faults.oracle import (
    assert_no_secret,
    assert_no_segment_left,
    assert_nothing_runs,
    assert_whole,
    engine_processes,
    snapshot,
    unused_segments,
)

pytestmark = pytest.mark.slow

NUM_ROWS = 1500
LOGS = (".log", ".out", ".err")
TOKEN = "orca2-test-token-5c1e9a7b3d2f4e6890ab12cd34ef56aa"


@pytest.fixture(scope="module")
def long_config(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    """The config of a scripted run that takes some time."""
    file = write_run_config(tmp_path_factory.mktemp("long"), chatml_dir)
    rows = (
        {"id": f"s{n}", "question": f"What is {n} + {2 * n + 3}?", "answer": str(3 * n + 3)}
        for n in range(NUM_ROWS)
    )
    (file.parent / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def undisturbed_run(long_config: Path) -> Path:
    run_dir = long_config.parent / "undisturbed"
    done = subprocess.run(
        [sys.executable, "-m", "orca2_gen", "run", str(long_config), *sets(run_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("home")) as found:
        yield found


def sets(run_dir: Path) -> list[str]:
    values = [f"run_dir={run_dir}", f"selection.scored_problems={NUM_ROWS}"]
    return [word for value in values for word in ("--set", value)]


def submit_words(head: Head, config: Path, run_dir: Path) -> list[str]:
    return ["submit", str(config), *sets(run_dir), "--address", head.dashboard]


def start_submit(
    head: Head, config: Path, run_dir: Path, **environment: str
) -> subprocess.Popen[str]:
    return start(submit_words(head, config, run_dir), head.environment | environment)


def start_run(head: Head, config: Path, run_dir: Path) -> subprocess.Popen[str]:
    """A process of `orca2 run` here, with its actors on the head."""
    words = ["run", str(config), *sets(run_dir)]
    return start(words, head.environment | SOON_LOST | {"RAY_ADDRESS": head.gcs_address})


def start(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orca2_gen", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def drivers(run_dir: Path) -> list[psutil.Process]:
    """The drivers that Ray's dashboard started for a run, found by their lock."""
    lock = run_dir / "driver.lock"
    return [psutil.Process(json.loads(lock.read_text())["pid"])] if lock.exists() else []


def committed(run_dir: Path, stage: str = "scores") -> int:
    return len(read_ledger(run_dir).committed(stage)) if run_dir.exists() else 0


def test_a_job_that_is_killed_goes_on_when_it_is_submitted_again(
    head: Head, long_config: Path, undisturbed_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    first = start_submit(head, long_config, run_dir)
    wait_until(first, lambda: committed(run_dir) > 3)
    drivers(run_dir)[0].kill()
    printed, _ = first.communicate(timeout=60)
    assert first.returncode == FAILED, printed
    assert "job run-1: FAILED" in printed
    before = snapshot(run_dir)
    resume = shlex.split(printed.partition("continue with: ")[2].partition("\n")[0])
    assert resume == ["orca2", *submit_words(head, long_config, run_dir)]
    second = start(resume[1:], head.environment)
    again, _ = second.communicate(timeout=300)
    assert second.returncode == 0, again
    assert "job run-2: SUCCEEDED" in again
    assert_whole(run_dir, undisturbed_run, printed=printed + again, before=before)


def test_9_a_stopped_job_ends_in_good_order_before_ray_kills_it(
    head: Head, long_config: Path, undisturbed_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "stopped"
    process = start_submit(head, long_config, run_dir)
    wait_until(process, lambda: committed(run_dir) > 3)
    [driver] = drivers(run_dir)
    client = JobSubmissionClient(head.dashboard)
    assert client.stop_job("stopped-1")
    driver.wait(timeout=10)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, printed
    # The driver had its last word and removed its lock: Ray did not kill it, as it does after 3 s.
    assert "Interrupted: what is committed stays" in printed
    assert client.get_job_status("stopped-1") == JobStatus.STOPPED
    assert not (run_dir / "driver.lock").exists()
    assert_nothing_runs()
    before = snapshot(run_dir)
    again, _ = (second := start_submit(head, long_config, run_dir)).communicate(timeout=300)
    assert second.returncode == 0, again
    assert_whole(run_dir, undisturbed_run, printed=printed + again, before=before)


def test_a_second_submission_of_a_run_that_goes_on_is_refused_and_a_wrong_config_is_reported(
    head: Head, long_config: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "twice"
    process = start_submit(head, long_config, run_dir)
    wait_until(process, lambda: committed(run_dir) > 0)
    second = start_submit(head, long_config, run_dir)
    printed, _ = second.communicate(timeout=60)
    assert second.returncode == USAGE
    assert "job twice-1 (RUNNING) is working on " in printed
    JobSubmissionClient(head.dashboard).stop_job("twice-1")
    process.communicate(timeout=60)
    wrong = start_submit(head, long_config, run_dir / "other")
    moved = long_config.parent / "sums.jsonl"
    moved.rename(moved.with_suffix(".away"))
    try:
        printed, _ = wrong.communicate(timeout=120)
    finally:
        moved.with_suffix(".away").rename(moved)
    assert wrong.returncode == USAGE, printed  # the driver's own exit code
    assert "tasks.0.path: nothing at" in printed


def test_jobs_run_where_a_token_is_asked_for_and_it_is_never_printed(
    long_config: Path, undisturbed_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with ray_head(tmp_path / "home", token=TOKEN) as head:
        anonymous = start_submit(head, long_config, run_dir, RAY_AUTH_MODE="disabled")
        refused, _ = anonymous.communicate(timeout=60)
        assert anonymous.returncode == USAGE, refused
        assert "RAY_AUTH_MODE=token" in refused
        process = start_submit(head, long_config, run_dir)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        logs = [file for file in head.temp_dir.rglob("*") if file.suffix in LOGS and file.is_file()]
        assert any(file.name == "job-driver-run-1.log" for file in logs)
        for file in logs:
            assert TOKEN not in file.read_text(errors="replace"), file
    assert TOKEN not in printed + refused
    assert_whole(run_dir, undisturbed_run, printed=printed)


@pytest.mark.parametrize("stage", ["problems", "scores"])  # by Ray tasks, by an engine
def test_6_nothing_is_left_of_a_killed_raylet_and_the_run_goes_on_with_another(
    long_config: Path, undisturbed_run: Path, tmp_path: Path, stage: str
) -> None:
    run_dir = tmp_path / "run"
    with ray_head(tmp_path / "home") as head:
        process = start_run(head, long_config, run_dir)
        wait_until(process, lambda: committed(run_dir, stage) > 3)
        head.raylet.kill()
        assert_nothing_runs(seconds=10)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == FAILED, printed
        assert_one_reason(printed)
    before = snapshot(run_dir)
    with ray_head(tmp_path / "home2") as head:
        again = start_run(head, long_config, run_dir)
        printed_again, _ = again.communicate(timeout=300)
    assert again.returncode == 0, printed_again
    assert_whole(run_dir, undisturbed_run, printed=printed + printed_again, before=before)


@pytest.mark.engine
def test_6_no_process_of_vllm_outlives_its_raylet(tmp_path: Path) -> None:
    config = ROOT / "ray_jobs" / "configs" / "microworld.toml"
    run_dir = tmp_path / "run"
    unused_before = unused_segments()
    with ray_head(tmp_path / "home") as head:
        process = start_run(head, config, run_dir)
        wait_until(process, lambda: committed(run_dir) > 0)
        assert any("VLLM" in line for line in engine_processes())
        head.raylet.kill()
        assert_nothing_runs(seconds=10)
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == FAILED, printed
    assert_one_reason(printed)
    assert_no_segment_left(unused_before)
    # Ray ended it: it could not even release its lock, which binds nobody.
    assert verify(run_dir).findings == []
    assert_no_secret(run_dir, printed)
