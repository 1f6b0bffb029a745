"""`orca2` as a process, with its own Ray and planned faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


OFFLINE = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Words before a command that leave it no network but its own loopback."""


SOON_LOST = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""Variables that shorten the 60 seconds for which Ray looks for a lost head."""


def start_driver(
    config_file: Path,
    run_dir: Path,
    *sets: str,
    address: str | None = None,
    through: Sequence[str] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    """A driver that runs `orca2 run`, on the Ray at `address` or on its own.

    It is started `through` a command that ends in it.
    """
    variables = {**os.environ, **environment}
    variables.pop("RAY_ADDRESS", None)
    if address is not None:
        variables["RAY_ADDRESS"] = address
    overrides = [f"run_dir={run_dir}", "dispatch.backoff_seconds=0.1", *sets]
    arguments = [word for override in overrides for word in ("--set", override)]
    driver = [sys.executable, "-m", "tests.faults.faulty", "run", str(config_file), *arguments]
    return subprocess.Popen(
        [*through, *driver],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_driver(
    config_file: Path,
    run_dir: Path,
    *sets: str,
    address: str | None = None,
    through: Sequence[str] = (),
    **environment: str,
) -> tuple[int, str]:
    """The exit code and output of a driver that nobody disturbs."""
    process = start_driver(
        config_file, run_dir, *sets, address=address, through=through, **environment
    )
    printed, _ = process.communicate(timeout=600)
    return process.returncode, printed


def assert_one_reason(printed: str) -> None:
    """Asserts that a failed driver gave its reason in one line, without a traceback."""
    assert "Traceback" not in printed, printed
    reasons = [line for line in printed.splitlines() if line.startswith("Error: ")]
    assert len(reasons) == 1, printed


def little_memory(taken_mb: int, used_mb: int = 0) -> dict[str, str]:
    """Variables with which Ray kills a process that takes `taken_mb` and none that takes less.

    The run itself may use `used_mb` besides. The test is skipped if the machine has too little
    memory.
    """
    memory = psutil.virtual_memory()
    wanted = (used_mb + taken_mb // 2) << 20
    threshold = 1 - (memory.available - wanted) / memory.total
    if threshold > 0.95 or memory.available < (used_mb + taken_mb) << 20:
        pytest.skip(f"only {memory.available >> 20} MB are free")
    return {
        "RAY_memory_usage_threshold": f"{threshold:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }


def skip_without_network_namespaces() -> None:
    if shutil.which("ip") is None:
        pytest.skip("no ip here")
    probe = subprocess.run([*OFFLINE, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace here: {probe.stderr.strip()}")


def wait_until(
    process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 300.0
) -> None:
    """Waits until the condition holds.

    Raises:
        AssertionError: the process ended before, or the time is up.
    """
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            assert process.stdout is not None
            raise AssertionError(f"ended with {process.returncode}: {process.stdout.read()}")
        assert time.monotonic() < end, "the time is up"
        time.sleep(0.005)
