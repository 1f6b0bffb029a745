"""The Ray instance that all contenders share, and what the figures say about the machine."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import AbstractContextManager, suppress
from typing import Any

import psutil  # type: ignore[import-untyped]

from ray_jobs.cluster import ray_instance

LOGICAL_CPUS = 12
"""CPUs that Ray counts: Ray Data's actors ask for one each, and all but the engine's mostly wait;
two would be too few for one of its pipelines to start."""
OBJECT_STORE_BYTES = 500_000_000
IDLE_SECONDS = 3.0


def roomy_ray() -> AbstractContextManager[None]:
    """Our own Ray, with room for Ray Data's actors and blocks."""
    return ray_instance(num_cpus=LOGICAL_CPUS, object_store_memory=OBJECT_STORE_BYTES)


def binding(bind: str | None) -> dict[str, Any]:
    """The binding of vLLM's CPU workers and OpenMP's wait policy, and the cores they may use.

    It sets both for every process that is started from here on.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if bind:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = bind
    return {
        "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
        "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto"),
        "cores": sorted(os.sched_getaffinity(0)),
    }


def engines_at_rest() -> tuple[list[list[int]], dict[str, float]]:
    """The cores that each engine's worker is bound to, and the cores burnt at rest by name.

    The latter are those that the processes of this benchmark burn while none of them has work.
    """
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    bound = [p.cpu_affinity() for p in processes if p.name().startswith("VLLM::Worker")]
    before = _cpu_seconds(processes)
    time.sleep(IDLE_SECONDS)
    burnt: defaultdict[str, float] = defaultdict(float)
    for key, seconds in _cpu_seconds(processes).items():
        burnt[key[1]] += (seconds - before.get(key, 0.0)) / IDLE_SECONDS
    return bound, {name: round(cores, 3) for name, cores in burnt.items() if cores >= 0.005}


def engine_processes() -> list[Any]:
    """The processes of vLLM that were started here and still run."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if each.name().startswith("VLLM::"):
                found.append(each)
    return found


def _cpu_seconds(processes: list[Any]) -> dict[tuple[int, str], float]:
    """Process id and name -> processor seconds so far, for those that still run."""
    seconds = {}
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            seconds[each.pid, each.name()] = sum(each.cpu_times()[:2])
    return seconds
