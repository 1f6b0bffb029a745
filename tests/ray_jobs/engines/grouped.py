"""`orca2` with planned faults and engines in placement groups, like engines that span nodes.

Usage: `python -m tests.ray_jobs.engines.grouped`. The groups hold CPUs for lack of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orca2_gen.config.engine import EngineConfig
from ray_jobs import model_engines, stages
from ray_jobs.cluster import Node
from ray_jobs.engines import placement
from ray_jobs.engines.placement import Placement
from tests.faults import faulty

RANKS = 2


def across_nodes(config: EngineConfig, nodes: Sequence[Node]) -> Placement:
    """The Placement of an engine for which no node has enough GPUs."""
    return Placement(replicas=config.replicas, ranks=RANKS, device="gpu", executor="ray")


def place_in_groups(setattr_: Callable[[Any, str, Any], None], cpus_per_rank: float) -> None:
    """Places every engine of a run across nodes, with a faulty actor."""
    bundles = property(lambda self: [{"CPU": cpus_per_rank}] * self.ranks)
    setattr_(Placement, "bundles", bundles)
    for module in (stages, model_engines):
        setattr_(module, "placement_on", across_nodes)
    setattr_(placement, "EngineActor", faulty.FaultyActor)


if __name__ == "__main__":
    from orca2_gen.cli import main

    place_in_groups(setattr, cpus_per_rank=0.6)
    main()
