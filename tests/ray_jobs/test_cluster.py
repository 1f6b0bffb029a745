"""The Ray instance of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orca2_gen.exit_codes import INTERRUPTED, USAGE
from ray_jobs import cluster
from tests.conftest import Write
from tests.faults.drivers import ROOT


def test_a_sigterm_while_ray_starts_is_an_interrupt_and_leaves_no_process(
    write_config: Write,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "orca2_gen", "plan", str(write_config())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    began: list[psutil.Process] = []
    while not began and process.poll() is None:  # by then Ray's own handler is in place
        began = [p for p in psutil.Process(process.pid).children() if "gcs_server" in p.name()]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, printed
    assert "run the same command again" in printed
    assert psutil.wait_procs(began, timeout=20)[1] == []


START = "from ray_jobs.cluster import ray_instance\nwith ray_instance(num_cpus=1): print('up')"


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_the_token_of_a_local_cluster_is_read_only_by_its_owner(tmp_path: Path, umask: int) -> None:
    environment = {name: os.environ[name] for name in os.environ if "RAY" not in name}
    path = tmp_path / ".ray" / "auth_token"
    for _ in range(2):  # the second finds a token
        done = subprocess.run(
            [sys.executable, "-c", START],
            cwd=ROOT,
            env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
            umask=umask,
            capture_output=True,
            text=True,
        )
        assert "up" in done.stdout, done.stderr
        assert path.stat().st_mode & 0o777 == 0o600
        assert re.fullmatch("[0-9a-f]{64}", path.read_text())
        assert [each.name for each in path.parent.iterdir()] == ["auth_token"]
        assert path.read_text() not in done.stdout + done.stderr


def test_ray_prints_no_remark_of_its_own_when_it_starts(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in os.environ if "RAY" not in name}
    done = subprocess.run(
        [sys.executable, "-c", START],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("up\n", "")


@pytest.mark.parametrize(
    ("given", "is_written"),
    [
        ({}, True),
        ({"RAY_AUTH_MODE": "token"}, True),
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_TOKEN": "x" * 64}, False),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, False),
    ],
)
def test_a_token_is_written_only_where_ray_would_write_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], is_written: bool
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **given}.items():
        monkeypatch.setenv(name, value)
    cluster._write_token()
    assert (tmp_path / ".ray" / "auth_token").exists() == is_written


def test_a_token_that_is_there_stays_and_a_home_without_room_for_one_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("another's")
    cluster._write_token()
    assert (tmp_path / ".ray" / "auth_token").read_text() == "another's"
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file/\.ray cannot be written .* set HOME to"):
        cluster._write_token()


def test_a_temporary_directory_too_long_for_a_socket_is_refused_with_the_remedy(
    write_config: Write, tmp_path: Path
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    for name in ("TMPDIR", "RAY_TMPDIR"):
        done = subprocess.run(
            [sys.executable, "-m", "orca2_gen", "plan", str(write_config())],
            cwd=ROOT,
            env=os.environ | {name: str(long)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == USAGE, done.stderr
        assert "set RAY_TMPDIR to a short directory" in done.stderr.splitlines()[-1]
        assert str(long) in done.stderr.splitlines()[-1]
