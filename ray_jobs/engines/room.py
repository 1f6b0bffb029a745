"""Room for one more engine of a model, as the cluster is now: other jobs hold GPUs too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from orca2_gen.config.schema import Config
from orca2_gen.records import Role
from ray_jobs.cluster import Node, check_cpus, cluster_nodes, free_gpus
from ray_jobs.engines.placement import Placement, placements_on, plan_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """GPUs that nobody holds, and how many one engine takes."""

    ranks: int = 0
    """GPUs of one engine; 0 if it needs none."""
    is_across: bool = False
    """Whether the ranks of an engine may lie on several nodes."""
    free: Mapping[Node, int] = field(default_factory=dict)

    @property
    def num_engines(self) -> int:
        """Engines that fit now; meaningless if they need no GPU."""
        if self.is_across:
            return sum(self.free.values()) // self.ranks
        return sum(num // self.ranks for num in self.free.values())

    @property
    def is_enough(self) -> bool:
        """Whether one more engine fits now."""
        return not self.ranks or self.num_engines > 0

    @property
    def nodes(self) -> list[str]:
        """Ray's ids of the nodes where one more engine fits now, the freest first."""
        if self.is_across or not self.ranks:
            return []
        fitting = [node for node, num in self.free.items() if num >= self.ranks]
        return [node.node_id for node in sorted(fitting, key=lambda node: -self.free[node])]

    def __str__(self) -> str:
        gpus = [f"{num} on {node.host}" for node, num in self.free.items() if num]
        return f"free GPUs now: {', '.join(gpus) or 'none'}"


def cluster_lines(config: Config, nodes: Sequence[Node], roles: Collection[Role]) -> list[str]:
    """The place of each model's engines on these nodes, and whether it is free now.

    Raises:
        ValueError: one of the models does not fit, or no node can run Ray's tasks.
    """
    check_cpus(nodes)
    placements = placements_on(config, nodes, roles)
    return [*plan_lines(config, nodes, roles), *room_lines(placements, nodes)]


def room_lines(placements: Mapping[str, Placement], nodes: Sequence[Node]) -> list[str]:
    """A line for each model of which some engines would have to wait for GPUs now.

    Args:
        placements: role -> placement of its engines.
        nodes: the living nodes.
    """
    free = free_gpus(nodes)
    lines = []
    for role, placement in placements.items():
        room = _room(placement, free)
        if placement.device == "gpu" and room.num_engines < placement.replicas:
            lines.append(
                f"{role}: other jobs hold GPUs, so {room.num_engines} of {placement.replicas} "
                f"engines can start now and the rest wait; {room}"
            )
    return lines


def room_for(placement: Placement) -> Callable[[], Room]:
    """A function that looks at the cluster and gives the Room for engines of this placement."""
    if placement.device != "gpu":
        return Room

    return lambda: _room(placement, free_gpus(cluster_nodes()))


def _room(placement: Placement, free: Mapping[Node, int]) -> Room:
    return Room(ranks=placement.ranks, is_across=placement.executor == "ray", free=free)
