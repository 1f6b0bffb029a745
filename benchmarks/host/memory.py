"""What is left of an engine that was told to end, and of one that was killed with kill -9.

With Ray it is the actor of a run, with its guard; without Ray, or without what a run needs, it is
vLLM's `LLM` alone.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped]

from benchmarks.host.child import Notes
from benchmarks.host.device import needs, warm_engine
from benchmarks.host.preflight import gpu_bytes_used
from benchmarks.host.steps import Task
from benchmarks.throughput.models import SIZES
from benchmarks.throughput.raw_engine import RawEngine
from benchmarks.throughput.workload import draw_sets
from ray_jobs.engines.orphans import segments

GONE_SECONDS = 45.0
"""Seconds in which all must be gone: a guard looks for leftovers for 32."""
LOOK_SECONDS = 0.25
MOST_LEFT_BYTES = 64 << 20
"""Bytes of a GPU's memory above those before that still count as none: a display, another user."""


class Held(Protocol):
    """An engine that is up, whatever it is built of."""

    @property
    def pid(self) -> int: ...

    def close(self) -> None: ...


def measure(task: Task, notes: Notes) -> None:
    """Notes bytes before, with the engine up, and after its end; then after a kill."""
    needs("vllm")
    with _starter(task, notes) as start:
        notes.add(before=_bytes([], on_gpu=task.on_gpu))
        for end in ("end", "kill"):
            before = _bytes([], on_gpu=task.on_gpu)
            engine = start()
            processes = _family(engine.pid)
            notes.add(**{f"up_before_{end}": _bytes(processes, on_gpu=task.on_gpu)})
            notes.add(processes=len(processes))
            started = time.monotonic()
            if end == "kill":
                os.kill(engine.pid, signal.SIGKILL)
            else:
                engine.close()
            left = _left(processes, before, started + GONE_SECONDS, on_gpu=task.on_gpu)
            seconds = round(time.monotonic() - started, 1)
            living = [each for each in processes if each.is_running()]
            notes.add(
                **{
                    f"left_after_{end}": left,
                    f"seconds_after_{end}": seconds,
                    f"processes_after_{end}": len(living),
                }
            )
            if end == "kill":
                engine.close()


@contextmanager
def _starter(task: Task, notes: Notes) -> Iterator[Callable[[], Held]]:
    """A function that starts the engine."""
    config = warm_engine(task, SIZES[task.models[0]])
    try:
        from benchmarks.throughput.contenders import WholePath
        from benchmarks.throughput.runs import run_config, untracked
        from ray_jobs.run import open_run
    except ModuleNotFoundError as error:
        notes.say("shortened", f"LLM alone: the package {error.name} is not installed")
        notes.add(engine="LLM")
        yield lambda: RawEngine(config)
        return
    notes.add(engine="actor")
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        # A run has tasks; nothing is asked of these.
        asked = run_config(config, SIZES[task.models[0]], Path(folder), draw_sets({"unread": 1}))
        with open_run(asked, untracked) as run:
            yield lambda: WholePath(run)


def _family(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _bytes(processes: list[psutil.Process], *, on_gpu: bool) -> dict[str, int | None]:
    """Bytes of the GPU, of engines' shared memory, and resident in these processes."""
    resident = shared = 0
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            resident += each.memory_info().rss
    for file in segments():
        with suppress(OSError):  # it is gone
            shared += file.stat().st_size
    used = gpu_bytes_used() if on_gpu else None
    return {"gpu": used, "shm": shared, "resident": resident}


def _left(
    processes: list[psutil.Process], before: dict[str, int | None], end: float, *, on_gpu: bool
) -> dict[str, int | None]:
    """Bytes above those before, once they are as good as none or the time is up."""
    while True:
        living = [each for each in processes if each.is_running()]
        now = _bytes(living, on_gpu=on_gpu)
        above = {
            name: None if value is None else value - (before[name] or 0)
            for name, value in now.items()
        }
        is_gone = not living and (above["gpu"] or 0) <= MOST_LEFT_BYTES
        if (is_gone and (above["shm"] or 0) <= 0) or time.monotonic() > end:
            return above
        time.sleep(LOOK_SECONDS)
