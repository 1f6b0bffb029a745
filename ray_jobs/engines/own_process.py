"""What the actor of an engine sets in its own process, before any child inherits it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass

import ray


@dataclass(frozen=True, kw_only=True, slots=True)
class EnginePlace:
    """Where an actor is, once it has its devices; it has loaded nothing yet."""

    node: str
    """Name of its host."""
    node_id: str
    """Ray's id of the node."""
    devices: tuple[str, ...] = ()
    """Ids of its GPUs there; none without GPUs, or if its ranks get them from a group."""
    niceness: int = 0
    """Niceness of its process and of those that it will start."""


def settled_place() -> EnginePlace:
    """The place of this process, which sees its own devices alone and has the usual priority."""
    return EnginePlace(
        node=platform.node(),
        node_id=ray.get_runtime_context().get_node_id(),
        devices=see_own_devices(),
        niceness=take_usual_priority(),
    )


def see_own_devices() -> tuple[str, ...]:
    """The ids of the GPUs that Ray gave this actor, the only ones that CUDA shows it from now on.

    Ray sets the variable itself unless RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is in a node's
    environment; then every engine of the node would load on its first GPU. vLLM reads the same
    variable on ROCm.
    """
    devices = tuple(sorted(map(str, ray.get_gpu_ids()), key=lambda name: (len(name), name)))
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return devices


def take_usual_priority() -> int:
    """The niceness of this process, after an attempt to make it 0.

    Ray's workers run at 15 (its default of RAY_worker_niceness), where any other process of the
    node starves an engine. Only some users may lower it: see `ulimit -e` and CAP_SYS_NICE.
    """
    with suppress(PermissionError):
        if os.getpriority(os.PRIO_PROCESS, 0) > 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    return os.getpriority(os.PRIO_PROCESS, 0)
