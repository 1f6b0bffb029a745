"""Signals: the first waits for the end of the code inside, the second does not; silent ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from orca2_gen.exit_codes import INTERRUPTED
from ray_jobs.dispatch.signals import ENDED, deferred_interrupts

ENDLESS = """
import time
from ray_jobs.dispatch.signals import deferred_interrupts
with deferred_interrupts() as interrupted:
    print("inside", flush=True)
    while not interrupted():
        time.sleep(0.01)
    print("noted", flush=True)
    while True:
        time.sleep(0.01)
"""


def test_a_signal_is_noted_inside_and_raised_on_leaving() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGTERM)
        assert interrupted()
        done.append("the rest")
    assert done == ["the rest"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_where_it_is(second: signal.Signals) -> None:
    child = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "inside\n"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.readline() == "noted\n"
    child.send_signal(second)
    assert child.wait(timeout=60) == INTERRUPTED


def test_an_error_raised_inside_precedes_the_interrupt() -> None:
    with pytest.raises(ValueError, match="mine"), deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("mine")


def test_handlers_are_as_before_and_other_threads_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    seen: list[bool] = []

    def elsewhere() -> None:
        with deferred_interrupts() as interrupted:
            seen.append(interrupted())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ("os._exit(1)", f"{ENDED}\n"),
        ("os.kill(os.getpid(), 9)", f"{ENDED}\n"),
        ("print('done')", ""),
        ("sys.exit(3)", ""),
        ("raise KeyboardInterrupt", ""),
    ],
)
def test_only_a_silent_end_is_reported(inside: str, told: str) -> None:
    program = f"""
import os, sys
from ray_jobs.dispatch.signals import told_if_ended
sys.excepthook = lambda *_: None
with told_if_ended():
    {inside}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == told
