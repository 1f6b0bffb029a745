"""A cluster of one head, made by `ray start --head`, with its dashboard on the loopback address."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Head:
    process: subprocess.Popen[str]
    gcs_address: str
    dashboard: str
    temp_dir: Path
    """Ray's folder, with its logs."""
    environment: dict[str, str]
    """Environment of its clients: its own, with a HOME that holds no token but the given one."""

    @property
    def raylet(self) -> psutil.Process:
        [found] = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if child.name() == "raylet"
        ]
        return found


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, below the range of Ray's workers."""
    found: list[int] = []
    for port in range(6400 + os.getpid() % 1500, 9900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == number:
            return found
    raise AssertionError("no free port")


@contextmanager
def ray_head(home: Path, *, token: str | None = None) -> Iterator[Head]:
    """A context with a head that is up and, given a token, serves only clients that show it."""
    home.mkdir(parents=True, exist_ok=True)
    gcs, dashboard, agent = free_ports(3)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_worker_niceness": "0",
    }
    if token is not None:
        (home / "token").write_text(token)
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / "token")}
    log = (home / "head.log").open("w")
    # Short, since Ray's sockets lie in it.
    temp_dir = Path(tempfile.mkdtemp(prefix="orca2-"))
    options = {
        "node-ip-address": "127.0.0.1",
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "num-cpus": 2,
        "object-store-memory": 80_000_000,
        "temp-dir": temp_dir,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", *words],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    head = Head(
        process=process,
        gcs_address=f"127.0.0.1:{gcs}",
        dashboard=f"http://127.0.0.1:{dashboard}",
        temp_dir=temp_dir,
        environment=environment,
    )
    try:
        _wait_for(process, dashboard, home / "head.log")
        yield head
    finally:
        # After a kill of the raylet it is gone: `--block` ends with the processes that it started.
        family = _family(process.pid)
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=20)
        for member in left:
            member.kill()
        process.wait()
        log.close()
        shutil.rmtree(temp_dir, ignore_errors=True)


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait_for(process: subprocess.Popen[str], port: int, log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
