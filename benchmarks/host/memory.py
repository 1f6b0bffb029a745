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
from dataclasses import dataclass
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
from ray_jobs.engines.orphans import mapped, segments

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
        for end in ("end", "kill"):
            gpu_before = gpu_bytes_used() if task.on_gpu else None
            notes.add(gpu_before=gpu_before)
            engine = start()
            footprint = _footprint(engine.pid, gpu_before)
            notes.add(**{f"up_before_{end}": footprint.now(), "processes": footprint.living})
            started = time.monotonic()
            if end == "kill":
                os.kill(engine.pid, signal.SIGKILL)
            else:
                engine.close()
            while not footprint.is_gone and time.monotonic() < started + GONE_SECONDS:
                time.sleep(LOOK_SECONDS)
            notes.add(
                **{
                    f"seconds_after_{end}": round(time.monotonic() - started, 1),
                    f"left_after_{end}": footprint.now(),
                    f"processes_after_{end}": footprint.living,
                }
            )
            if end == "kill":
                engine.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What an engine takes, now and when it is gone."""

    processes: tuple[psutil.Process, ...]
    segments: frozenset[Path]
    """The files of shared memory that they had mapped when it was up."""
    gpu_before: int | None
    """Bytes of the GPU that were taken before; None without a GPU."""

    def now(self) -> dict[str, int | None]:
        """Bytes on the GPU, in shared memory, and resident in its processes."""
        resident = shared = 0
        for each in self.processes:
            with suppress(psutil.NoSuchProcess):
                resident += each.memory_info().rss
        for file in self.segments:
            with suppress(FileNotFoundError):
                shared += file.stat().st_size
        gpu = None if self.gpu_before is None else gpu_bytes_used() - self.gpu_before
        return {"gpu": gpu, "shm": shared, "resident": resident}

    @property
    def living(self) -> int:
        """The number of its processes that run."""
        number = 0
        for each in self.processes:
            with suppress(psutil.NoSuchProcess):
                number += each.is_running() and each.status() != psutil.STATUS_ZOMBIE
        return number

    @property
    def is_gone(self) -> bool:
        now = self.now()
        return not (self.living or now["shm"]) and (now["gpu"] or 0) <= MOST_LEFT_BYTES


def _footprint(pid: int, gpu_before: int | None) -> Footprint:
    """The footprint of the process and all below it."""
    parent = psutil.Process(pid)
    processes = (parent, *parent.children(recursive=True))
    own = mapped(segments(), [each.pid for each in processes])
    return Footprint(processes=processes, segments=frozenset(own), gpu_before=gpu_before)


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
