"""`orca2` as a process, with a Ray of its own and planned faults."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.oracle import SECRET

ROOT = Path(__file__).parents[2]


def start_driver(
    config_file: Path, run_dir: Path, *sets: str, address: str | None = None, **environment: str
) -> subprocess.Popen[str]:
    """A driver that runs `orca2 run`, on the Ray at `address` or on one of its own."""
    variables = {**os.environ, "API_KEY": SECRET, **environment}
    variables.pop("RAY_ADDRESS", None)
    if address is not None:
        variables["RAY_ADDRESS"] = address
    overrides = [f"run_dir={run_dir}", "dispatch.backoff_seconds=0.1", *sets]
    arguments = [word for override in overrides for word in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.faulty", "run", str(config_file), *arguments],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_driver(
    config_file: Path, run_dir: Path, *sets: str, address: str | None = None, **environment: str
) -> tuple[int, str]:
    """Exit code and all that was printed by a driver that nobody disturbs."""
    process = start_driver(config_file, run_dir, *sets, address=address, **environment)
    printed, _ = process.communicate(timeout=600)
    return process.returncode, printed


def wait_until(
    process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 300.0
) -> None:
    """Returns when the condition holds.

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
