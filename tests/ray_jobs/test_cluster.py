"""The Ray instance of a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil

from orca2_gen.exit_codes import INTERRUPTED
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
