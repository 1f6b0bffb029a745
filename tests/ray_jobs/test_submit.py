"""The files that travel to a cluster, names of jobs, and addresses of no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from ray.job_submission import JobStatus

from orca2_gen.config.load import load_config, read_config
from orca2_gen.exit_codes import FAILED, INTERRUPTED, REJECTED, USAGE
from orca2_gen.offline import OFFLINE_ENVIRONMENT
from ray_jobs import cluster, submit
from ray_jobs.submit import PACKAGES, fill_working_dir, follow_job, job_client, next_id, submit_run
from tests.conftest import Write
from tests.faults.drivers import ROOT


def test_only_sources_and_config_travel(write_config: Write, tmp_path: Path) -> None:
    config = load_config(write_config())
    there = tmp_path / "there"
    there.mkdir()
    fill_working_dir(there, config)
    files = [file for file in there.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".py", ".toml", ".jinja", ".json"}
    assert [file.name for file in files if file.suffix == ".json"] == ["config.json"]
    assert not any(part.startswith(".") for file in files for part in file.parts[-3:])
    # Ray warns of a working directory of more than 10 MiB; no source of ours is above 100 kB.
    assert sum(file.stat().st_size for file in files) < 10 * 1024**2 / 2
    assert max(file.stat().st_size for file in files) < 100_000
    assert load_config(there / "config.json") == config


def test_the_working_directory_runs_by_itself(write_config: Write, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    fill_working_dir(there, load_config(write_config()))
    done = subprocess.run(
        [sys.executable, "-c", "import orca2_gen.cli as c; print(c.__file__)"],
        cwd=there,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(there / "orca2_gen" / "cli.py"), done.stderr


def test_a_config_of_another_machine_can_be_read_and_sent(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'run_dir = "/cluster/run"\n[[tasks]]\nname = "t"\nformat = "jsonl"\n'
        'path = "/cluster/t.jsonl"\n[student]\nmodel = "/cluster/student"\n'
        '[teacher]\nmodel = "/cluster/teacher"\n'
    )
    with pytest.raises(ValueError, match=r"tasks\.0\.path: nothing at /cluster/t\.jsonl"):
        load_config(file)
    assert read_config(file).tasks[0].path == "/cluster/t.jsonl"


def test_ids_are_the_runs_name_and_the_next_number() -> None:
    assert next_id("run", []) == "run-1"
    assert next_id("run", ["run-1", "run-10", "run-x", "rerun-70", "run-a-90", ""]) == "run-11"
    assert next_id("run-a", ["run-1", "run-a-90"]) == "run-a-91"
    assert next_id("my#run?/x y", ["my_run__x_y-3"]) == "my_run__x_y-4"


class Cluster:
    """A cluster that takes a job and keeps its arguments and the names in its working directory."""

    def __init__(self, *jobs: Any) -> None:
        self._jobs = jobs
        self.given: dict[str, Any] = {}
        self.files: set[str] = set()

    def list_jobs(self) -> list[Any]:
        return list(self._jobs)

    def submit_job(self, **given: Any) -> str:
        self.given = given
        self.files = {file.name for file in Path(given["runtime_env"]["working_dir"]).iterdir()}
        return str(given["submission_id"])


def test_a_submitted_job_is_offline_from_its_first_process_on(write_config: Write) -> None:
    config = load_config(write_config())
    head = Cluster()
    assert submit_run(head, config, "/venv/bin/python") == "run-1"  # type: ignore[arg-type]
    runtime_env = head.given["runtime_env"]
    assert runtime_env["env_vars"] == OFFLINE_ENVIRONMENT
    for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert runtime_env["env_vars"][name] == "1"
    assert runtime_env["env_vars"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert head.files == {"config.json", *PACKAGES}
    assert head.given["entrypoint"] == "/venv/bin/python -m orca2_gen run config.json"
    assert head.given["metadata"] == {"run_dir": os.path.abspath(config.run_dir)}
    assert not Path(runtime_env["working_dir"]).exists()


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_given_address_is_asked_whatever_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    asked: list[str] = []

    def request(method: str, url: str, **options: Any) -> Any:
        asked.append(url)
        raise requests.exceptions.ConnectionError

    monkeypatch.setattr(requests, "request", request)
    with pytest.raises(ValueError, match="no Ray dashboard answers"):
        job_client("http://127.0.0.1:9")
    assert asked == ["http://127.0.0.1:9/api/version"]


class Dashboard:
    """A cluster's answers, turn by turn: (status, log), where an exception is raised instead."""

    def __init__(self, *turns: tuple[Any, Any], code: int | None = None, message: str = "") -> None:
        self._turns = list(turns)
        self._log: Any = ""
        self._code, self._message = code, message

    def get_job_info(self, job_id: str) -> Any:
        status, self._log = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
        if isinstance(status, Exception):
            raise status
        return SimpleNamespace(status=status, driver_exit_code=self._code, message=self._message)

    def get_job_logs(self, job_id: str) -> str:
        if isinstance(self._log, Exception):
            raise self._log
        return str(self._log)


RUNNING, FAILED_JOB = JobStatus.RUNNING, JobStatus.FAILED
AWAY = RuntimeError("Request failed with status code 500")


def followed(monkeypatch: pytest.MonkeyPatch, dashboard: Dashboard) -> tuple[int, str]:
    """The exit code and the output, on a clock that a sleep sets forward."""
    now = [0.0]
    monkeypatch.setattr(submit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    said: list[str] = []
    code = follow_job(dashboard, "run-1", said.append)  # type: ignore[arg-type]
    return code, "".join(said)


def test_a_log_is_printed_once_as_it_grows_and_again_if_it_restarts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dashboard = Dashboard(
        (RUNNING, "a\n"), (RUNNING, "a\nb\n"), (RUNNING, "c\n"), (JobStatus.SUCCEEDED, "c\nd\n")
    )
    assert followed(monkeypatch, dashboard) == (0, "a\nb\nc\nd\njob run-1: SUCCEEDED\n")


OURS = {1: FAILED, 2: USAGE, 3: REJECTED, 75: INTERRUPTED}
OTHERS = dict.fromkeys((-9, 127, 137, None), FAILED)


@pytest.mark.parametrize(("code", "expected"), (OURS | OTHERS).items())
def test_the_exit_code_is_the_drivers_own_where_it_is_one_of_ours(
    monkeypatch: pytest.MonkeyPatch, code: int | None, expected: int
) -> None:
    dashboard = Dashboard((FAILED_JOB, "log\n"), code=code, message="the node is gone\nlog")
    found, printed = followed(monkeypatch, dashboard)
    assert found == expected
    assert ("the node is gone" in printed) == (code in OTHERS)


def test_the_end_of_a_job_is_reported_even_if_its_log_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert followed(monkeypatch, Dashboard((RUNNING, "a\n"), (JobStatus.STOPPED, AWAY))) == (
        INTERRUPTED,
        "a\njob run-1: STOPPED\n",
    )


def test_a_dashboard_that_is_away_for_a_while_is_waited_for_and_one_that_stays_away_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = [(AWAY, "")] * int(submit.SILENT_SECONDS - 5)
    dashboard = Dashboard((RUNNING, ""), *away, (JobStatus.SUCCEEDED, "done\n"))
    assert followed(monkeypatch, dashboard)[0] == 0
    with pytest.raises(RuntimeError, match=r"not answered about job run-1 for 120 s .* still run"):
        followed(monkeypatch, Dashboard((AWAY, "")))


@pytest.fixture(autouse=True)
def no_address_of_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the address that job_client sets, which must not stay for other tests."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "os://x", "auto", ""])
def test_an_address_of_no_dashboard_is_refused_before_ray_sees_it(address: str) -> None:
    with pytest.raises(ValueError, match="is no dashboard"):
        job_client(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hunter2@127.0.0.1:8265",
        "http://hunter2@127.0.0.1:8265",
        "user:hunter2@127.0.0.1:8265",
        "ray://user:hunter2@host",
        "http://host/x?token=hunter2",
        "http://host:8265/#api_key=hunter2",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(ValueError, match="holds credentials") as refused:
        job_client(address)
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match="RAY_ADDRESS holds credentials") as refused:
        cluster._init(None, 0)
    assert "hunter2" not in str(refused.value)


def test_a_secret_in_the_interpreters_command_is_refused_and_not_shown(write_config: Write) -> None:
    config = load_config(write_config())
    with pytest.raises(ValueError, match="--python") as refused:
        submit_run(Cluster(), config, "HF_TOKEN=hunter2 python")  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)


class Echo(BaseHTTPRequestHandler):
    """A proxy that answers with an error that repeats what it was sent, but tells its version."""

    def do_GET(self) -> None:
        is_version = self.path.startswith("/api/version")
        said = json.dumps(
            {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "s"}
        )
        sent = " ".join(self.headers.values())
        body = (said if is_version else f"no: {sent}").encode()
        self.send_response(200 if is_version else 502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def test_no_error_of_the_cluster_shows_the_token_it_was_sent(write_config: Write) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        words = ["submit", str(write_config()), "--address", address]
        done = subprocess.run(
            [sys.executable, "-m", "orca2_gen", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "hunter2" * 8},
        )
        server.shutdown()
    assert done.returncode == FAILED
    [line] = done.stderr.splitlines()
    assert "the cluster answered with status 502: no" in line and "..." in line
    assert "hunter2" not in done.stdout + line


def test_where_no_dashboard_answers_one_line_says_so(write_config: Write) -> None:
    words = ["submit", str(write_config()), "--address", "http://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-m", "orca2_gen", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == USAGE
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: --address http://127.0.0.1:9: no Ray dashboard answers")
