"""Engines on a cluster whose GPUs only Ray counts: they wait, fail, move; what they say is printed.

Usage: `python -m tests.ray_jobs.engines.gpus SCENARIO`. The last line is JSON.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster

from orca2_gen.config.dispatch import DispatchConfig
from ray_jobs.cluster import check_cpus, cluster_nodes
from ray_jobs.engines import devices, replicas
from ray_jobs.engines.devices import Devices
from ray_jobs.engines.own_process import EnginePlace, settled_place
from ray_jobs.engines.placement import PlacedEngine, Placement, on_node
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.room import room_for, room_lines

SECONDS = 90.0
# A process of Ray's takes seconds to start on a busy machine.
LIMITS = DispatchConfig(backoff_seconds=0.1, max_failed_starts=2, start_seconds=12.0)


class Engine:
    """An actor like EngineActor that fails on some GPUs, or on some nodes."""

    def __init__(self, broken: list[str]) -> None:
        self._broken, self._place = broken, settled_place()

    async def placed(self) -> EnginePlace:
        return self._place

    async def ready(self) -> Any:
        if {self._place.node_id, *self._place.devices} & set(self._broken):
            raise RuntimeError("planned: this GPU is broken")
        return ()

    async def close(self) -> None:
        pass


def engines(
    count: int, said: list[str], broken: list[str], failed: set[tuple[str, str]] | None = None
) -> Replicas:
    actor = ray.remote(Engine)

    def start(index: int, node: str) -> PlacedEngine:
        options = {"num_gpus": 1, "num_cpus": 0} | on_node(node)
        return PlacedEngine(actor=actor.options(**options).remote(broken))

    placed = Placement(replicas=count, ranks=1, device="gpu", executor=None)
    return Replicas(
        start, count, LIMITS, said.append, devices=Devices(said.append, room_for(placed), failed)
    )


def settled(pool: Replicas, until: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Whether it comes true within these seconds, while the engines settle."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        ready = ray.wait(pool.pending, timeout=0.1)[0] if pool.pending else time.sleep(0.1) or []
        pool.settle(ready)
    return until()


def used(pool: Replicas) -> list[str]:
    return sorted(name for replica in pool.all for _, name in replica.devices)


def held() -> dict[str, Any]:
    """Another job holds all GPUs for longer than an engine may take to start."""
    ray.init(num_cpus=1, num_gpus=2, include_dashboard=False)
    other = ray.remote(num_gpus=2, num_cpus=0)(Engine).remote([])
    ray.get(other.placed.remote())
    said: list[str] = []
    pool = engines(2, said, [])
    placed = Placement(replicas=2, ranks=1, device="gpu", executor=None)
    plan = room_lines({"student": placed}, cluster_nodes())
    came = settled(pool, lambda: len(pool.working) > 0, 2 * LIMITS.start_seconds)
    ray.kill(other)
    up = settled(pool, lambda: len(pool.working) == 2)
    plan_after = room_lines({"student": placed}, cluster_nodes())
    pool.close()
    return {"plan": plan, "came": came, "up": up, "said": said, "busy": plan_after}


def broken_gpu() -> dict[str, Any]:
    """One GPU of three is broken; student and teacher follow each other."""
    ray.init(num_cpus=1, num_gpus=3, include_dashboard=False)
    said: list[str] = []
    failed: set[tuple[str, str]] = set()
    found = {}
    for role, count in (("student", 1), ("teacher", 2)):
        pool = engines(count, said, ["0"], failed)
        found[role] = settled(pool, lambda: len(pool.working) == count) and used(pool)  # noqa: B023
        pool.close()
    alone = engines(3, said, [], failed)  # all three are wanted: the one that failed is tried again
    found["all"] = settled(alone, lambda: len(alone.working) == 3) and used(alone)
    alone.close()
    return found | {"said": said, "failed": len(failed)}


def broken_node() -> dict[str, Any]:
    """Every start on the first node fails, on whichever of its GPUs; a second node has one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 8})
    cluster.connect()
    first = cluster_nodes()[0].node_id
    cluster.add_node(num_cpus=0, num_gpus=1)
    cluster.wait_for_nodes()
    said: list[str] = []
    pool = engines(1, said, [first])
    up = settled(pool, lambda: len(pool.working) == 1)
    place = pool.all[0].place
    pool.close()
    ray.shutdown()
    cluster.shutdown()
    return {"up": up, "moved": place is not None and place.node_id != first, "said": said}


def joined_node() -> dict[str, Any]:
    """Two engines, one GPU; then a node with another joins."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 1})
    cluster.connect()
    said: list[str] = []
    pool = engines(2, said, [])
    one = settled(pool, lambda: len(pool.working) == 1)
    waits = settled(pool, lambda: any("waits" in line for line in said))
    try:
        check_cpus(cluster_nodes())
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    cluster.add_node(num_cpus=0, num_gpus=1)
    started = time.monotonic()
    both = settled(pool, lambda: len(pool.working) == 2)
    seconds = time.monotonic() - started
    pool.close()
    ray.shutdown()
    cluster.shutdown()
    return {
        "one": one,
        "waits": waits,
        "both": both,
        "seconds": seconds,
        "said": said,
        "refusal": refusal,
    }


SCENARIOS = {each.__name__: each for each in (held, broken_gpu, broken_node, joined_node)}

if __name__ == "__main__":
    devices.FIRST_TELL_SECONDS, replicas.LOOK_SECONDS = 1.0, 0.5
    print(json.dumps(SCENARIOS[sys.argv[1]]() | {"host": platform.node()}))
