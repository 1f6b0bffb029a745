"""The models of the steps, made where they are not there yet."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.host.child import Notes
from benchmarks.host.steps import Task
from benchmarks.throughput.models import model_directory


def measure(task: Task, notes: Notes) -> None:
    """Notes seconds and bytes of each model."""
    figures = {}
    for name in task.models:
        started = time.perf_counter()
        directory = model_directory(name, Path(task.folder))
        size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
        seconds = round(time.perf_counter() - started, 1)
        figures[name] = {"seconds": seconds, "weight_bytes": size}
        notes.add(**figures)
