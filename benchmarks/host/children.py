"""Processes with a time limit, and the end of all that they leave behind.

A step may start Ray, engines and their guards, each in a session of its own, and any of them may
outlive it. So this process adopts what is orphaned below it (PR_SET_CHILD_SUBREAPER, prctl(2)): all
that a step leaves is then its descendant, whatever the session, and the next step begins only when
nothing is left.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.host.steps import Ended, Outcome, Task
from ray_jobs.engines.causes import remedy, root_cause

ROOT = Path(__file__).parents[2]
LEAVE_SECONDS = 8.0
"""Seconds in which what a step leaves may end by itself: Ray ends within six seconds of its driver,
and a guard within about three of its engine."""
KILL_SECONDS = 10.0
"""Seconds in which what was killed must be gone; what hangs in a driver may never be."""
LOOK_SECONDS = 0.1
INTERRUPTED = "interrupted"
"""The reason of a step that was cut off together with all that would follow."""
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes every orphan below this process its child."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run_child(task: Task, log: Path, environment: dict[str, str]) -> Outcome:
    """What became of a step; its process and all that it started are gone.

    Args:
        task: the step, with its seconds.
        log: file that gets what the step prints.
        environment: variables beside those of this process.
    """
    Path(task.figures_file).unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.host.child", json.dumps(dataclasses.asdict(task))]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    started = time.monotonic()
    ended: Ended = "done"
    reason = ""
    with open(log, "wb") as printed:
        process = subprocess.Popen(
            command,
            # It ends when the other end of this pipe is closed, as it is if this process is killed.
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=os.environ | environment | {"PYTHONPATH": path},
            start_new_session=True,
        )
        try:
            process.wait(task.seconds)
        except subprocess.TimeoutExpired:
            ended, reason = "cut off", f"cut off after {task.seconds:.0f} s"
        except KeyboardInterrupt:
            ended, reason = "cut off", INTERRUPTED
        finally:
            seconds = time.monotonic() - started
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            end_descendants(0.0 if reason == INTERRUPTED else LEAVE_SECONDS)
    told = _told(Path(task.figures_file))
    if ended == "done":
        ended, reason = _verdict(told, process.returncode, log)
    figures = told.get("figures", {})
    return Outcome(
        step=task.step, ended=ended, seconds=round(seconds, 1), reason=reason, figures=figures
    )


def _told(figures_file: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(figures_file.read_text())
    except (FileNotFoundError, ValueError):  # it ended before its first figure
        return {}
    return told


def _verdict(told: dict[str, Any], code: int, log: Path) -> tuple[Ended, str]:
    """How a step has ended that was not cut off, and why."""
    if "left_out" in told:
        return "left out", str(told["left_out"])
    if "failed" in told:
        return "failed", _with_cause(str(told["failed"]), log)
    if code:
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        return "failed", _with_cause(f"its process ended with {how}", log)
    return "done", str(told.get("shortened", ""))


def _with_cause(why: str, log: Path) -> str:
    """The reason, after it what an engine's own processes printed, and what to do about that."""
    cause = root_cause(log.read_text(errors="replace"))
    said = [why] if cause in why else [why, cause]
    return "; ".join([*said, *filter(None, [remedy(cause)]), f"see {log}"])


def end_descendants(leave_seconds: float = LEAVE_SECONDS) -> None:
    """Returns when nothing runs below this process: what does not end by itself is killed."""
    end = time.monotonic() + leave_seconds
    while (found := descendants()) and time.monotonic() < end + KILL_SECONDS:
        if time.monotonic() > end:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def descendants() -> list[int]:
    """The ids of all processes that run below this one; those that have ended are buried."""
    parents, ended = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone
            # The name, in brackets, may hold anything.
            state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            parents[int(folder.name)] = int(parent)
            if state == b"Z":
                ended.add(int(folder.name))
    own = os.getpid()
    found = {own}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    for pid in ended & found:
        if parents[pid] == own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return sorted(found - ended - {own})
