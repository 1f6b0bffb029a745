"""rayjob.yaml's entrypoint as a job of a real cluster: what KubeRay would then see.

KubeRay retries a job that FAILED, and none that was STOPPED (kuberay.py names the sources).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from orca2_gen.exit_codes import INTERRUPTED
from orca2_gen.provenance.verify import verify
from tests.conftest import write_run_config
from tests.faults.heads import Head, ray_head
from tests.pins import ROOT
from tests.ray_jobs.kuberay import rayjob

pytestmark = pytest.mark.slow

JOB = rayjob((ROOT / "ray_jobs" / "rayjob.yaml").read_text()).spec
TOKEN = "orca2-test-token-0d7b4c1e95a84f63b2e8c9a1f7d35460"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with ray_head(tmp_path_factory.mktemp("home"), token=TOKEN) as found:
        yield found


@pytest.fixture(scope="module")
def client(head: Head) -> JobSubmissionClient:
    # This process read RAY_AUTH_MODE when it imported ray.
    return JobSubmissionClient(head.dashboard, headers={"Authorization": f"Bearer {TOKEN}"})


def submit(
    client: JobSubmissionClient, head: Head, job_id: str, config: Path, *, nodes: int = 1
) -> None:
    """Submits the entrypoint, with this cluster's names in place of the file's."""
    entrypoint = JOB.entrypoint
    for found, instead in (
        ("ray_jobs.nodes 2", f"ray_jobs.nodes {nodes} --seconds 5"),
        ("/runs/config.toml", str(config)),
        ("http://127.0.0.1:8265", head.dashboard),
        (JOB.jobId, job_id),
    ):
        assert entrypoint.count(found) == 1
        entrypoint = entrypoint.replace(found, instead)
    client.submit_job(
        entrypoint=entrypoint,
        submission_id=job_id,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the time is up"
        time.sleep(0.1)


def end_of(client: JobSubmissionClient, job_id: str) -> JobStatus:
    wait_for(lambda: client.get_job_status(job_id).is_terminal())
    return client.get_job_status(job_id)


def driver_of(config: Path) -> psutil.Process | None:
    lock = config.parent / "run" / "driver.lock"
    words = (str(config), "orca2")
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if lock.exists() and all(word in line for word in words) and "code=" not in line:
            return process
    return None


def test_a_run_that_ends_well_succeeds(
    client: JobSubmissionClient, head: Head, tmp_path: Path, chatml_dir: Path
) -> None:
    submit(client, head, "well", write_run_config(tmp_path, chatml_dir))
    assert end_of(client, "well") == JobStatus.SUCCEEDED, client.get_job_logs("well")
    assert verify(tmp_path / "run").findings == []


def test_a_mistake_in_the_config_is_not_tried_again_and_is_told(
    client: JobSubmissionClient, head: Head, tmp_path: Path
) -> None:
    submit(client, head, "mistake", tmp_path / "nothing.toml")
    assert end_of(client, "mistake") == JobStatus.STOPPED
    assert "nothing.toml" in client.get_job_logs("mistake").partition("\n")[2]


def test_too_many_rejections_are_not_tried_again(
    client: JobSubmissionClient, head: Head, tmp_path: Path, chatml_dir: Path
) -> None:
    config = write_run_config(
        tmp_path, chatml_dir, sections="[dispatch]\nmax_rejection_rate = 0.0\nrejection_rows = 1"
    )
    submit(client, head, "rejections", config)
    assert end_of(client, "rejections") == JobStatus.STOPPED
    assert "were rejected" in client.get_job_logs("rejections")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_driver_that_is_interrupted_or_killed_is_tried_again(
    client: JobSubmissionClient, head: Head, tmp_path: Path, chatml_dir: Path, number: int
) -> None:
    config, job_id = write_run_config(tmp_path, chatml_dir), f"signal-{number}"
    submit(client, head, job_id, config)
    wait_for(lambda: driver_of(config) is not None)
    driver = driver_of(config)
    assert driver is not None
    driver.send_signal(number)
    assert end_of(client, job_id) == JobStatus.FAILED, client.get_job_logs(job_id)
    code = client.get_job_info(job_id).driver_exit_code
    assert code == (INTERRUPTED if number == signal.SIGTERM else 128 + number)
    submit(client, head, f"{job_id}-again", config)
    assert end_of(client, f"{job_id}-again") == JobStatus.SUCCEEDED


def test_a_job_that_is_stopped_ends_in_good_order(
    client: JobSubmissionClient, head: Head, tmp_path: Path, chatml_dir: Path
) -> None:
    config = write_run_config(tmp_path, chatml_dir)
    submit(client, head, "stopped", config)
    wait_for(lambda: driver_of(config) is not None)
    client.stop_job("stopped")
    assert end_of(client, "stopped") == JobStatus.STOPPED
    assert "Interrupted: what is committed stays" in client.get_job_logs("stopped")
    assert not (tmp_path / "run" / "driver.lock").exists()


def test_nodes_that_do_not_come_are_named_and_tried_again(
    client: JobSubmissionClient, head: Head, tmp_path: Path, chatml_dir: Path
) -> None:
    submit(client, head, "alone", write_run_config(tmp_path, chatml_dir), nodes=2)
    assert end_of(client, "alone") == JobStatus.FAILED
    assert "Error: 1 of 2 nodes have joined" in client.get_job_logs("alone")
    assert not (tmp_path / "run").exists()
    assert os.environ.get("RAY_ADDRESS") is None  # this process joined nothing
