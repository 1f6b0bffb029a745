"""How long an engine takes to start, with nothing compiled and with everything."""

from __future__ import annotations

import os
import shutil
import time

from benchmarks.host.child import Notes
from benchmarks.host.device import needs, warm_engine
from benchmarks.host.steps import Task
from benchmarks.throughput.models import SIZES
from benchmarks.throughput.raw_engine import RawEngine


def measure(task: Task, notes: Notes) -> None:
    """Notes the seconds of two starts, each to its first token.

    Before the first, what vLLM and triton have compiled is removed. The weights are in the page
    cache both times, since they have just been written.
    """
    needs("vllm")
    for name in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"):
        shutil.rmtree(os.environ[name], ignore_errors=True)
    for start in ("cold", "warm"):
        engine = RawEngine(warm_engine(task, SIZES[task.models[0]]))
        notes.add(**{f"{start}_start_seconds": round(engine.cold_start_seconds, 1)})
        started = time.perf_counter()
        engine.close()
        notes.add(close_seconds=round(time.perf_counter() - started, 1))
