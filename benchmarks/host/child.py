"""The process of one step: `python -m benchmarks.host.child TASK`, TASK a Task as JSON.

It writes every figure into the task's file as soon as it has it, so that a step which hangs,
crashes or is cut off leaves what it has measured.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.host.steps import Task

OURS = ("benchmarks", "orca2_gen", "ray_jobs", "train")


class Notes:
    """The figures of a step, in its file from the moment that they are noted."""

    def __init__(self, task: Task) -> None:
        self._file = Path(task.figures_file)
        self._told: dict[str, Any] = {"figures": {}}
        self._began = time.monotonic()
        self._end = self._began + task.seconds

    @property
    def seconds_spent(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float:
        """Seconds until the step is cut off."""
        return self._end - time.monotonic()

    def add(self, **figures: Any) -> None:
        """Notes figures; one of the same name is replaced."""
        self._told["figures"] |= figures
        self._write()

    def say(self, kind: str, why: str) -> None:
        """Notes why the step is `left_out`, has `failed` or was `shortened`."""
        self._told[kind] = why
        self._write()

    def _write(self) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(self._told))
        os.replace(partial, self._file)


def main() -> int:
    """The exit code: 0 if the step is done, or cannot be done here."""
    task = Task(**json.loads(sys.argv[1]))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    notes = Notes(task)
    try:
        importlib.import_module(f"benchmarks.host.{task.module}").measure(task, notes)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in OURS:
            raise
        notes.say("left_out", f"the package {error.name.split('.')[0]} is not installed")
    except Exception as error:
        traceback.print_exc()
        notes.say("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return 1
    return 0


def _end_with_parent() -> None:
    """Ends this process and its group once the process that started it is gone."""
    # A buffered read would hold the lock of sys.stdin, for which the interpreter's end waits.
    while os.read(0, 1):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
