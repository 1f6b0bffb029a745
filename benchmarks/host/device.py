"""What several steps need of the device: its ceiling, and an engine that has it alone."""

from __future__ import annotations

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.host.steps import Task
from benchmarks.throughput.models import Size, engine_config, model_directory
from benchmarks.throughput.roofline import Ceiling, measured_ceiling
from orca2_gen.config.engine import VLLMEngineConfig

CEILING_SECONDS = 1.0
"""Seconds of matmuls, and as many of copies."""


def needs(package: str) -> None:
    """Ends a step here that would find out only after minutes that a package is not installed.

    Raises:
        ModuleNotFoundError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def device_ceiling(task: Task) -> Ceiling:
    """The highest rates of one GPU, or of all cores together."""
    # In a process of its own, whose memory on the device goes with it.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        device = "cuda" if task.on_gpu else "cpu"
        return pool.submit(measured_ceiling, device, CEILING_SECONDS).result()


def warm_engine(task: Task, size: Size, **values: Any) -> VLLMEngineConfig:
    """The engine of a step's model that has the device alone, with other values where given."""
    model = model_directory(task.models[0], Path(task.folder))
    engine = engine_config(model, size, on_gpu=task.on_gpu)
    if task.on_gpu:
        values = {"kv_cache_memory_bytes": None, "gpu_memory_utilization": 0.9} | values
    return engine.model_copy(update=values)
