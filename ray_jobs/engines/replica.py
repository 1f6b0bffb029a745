"""A place for an engine: it is starting, up, waiting to be started again, held, or given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.placement import PlacedEngine


@dataclass(kw_only=True, slots=True)
class Replica:
    """A place for an engine, and the engine that is in it now."""

    index: int
    engine: PlacedEngine | None = None
    starting: Any = None
    """The pending `placed()`, then the pending `ready()`, of an actor that is not up yet."""
    is_placed: bool = False
    """Whether its actor has devices; if not, it waits for them."""
    due: float = 0.0
    """Time of time.monotonic at which to start, or at which a start or close has taken too long."""
    failed_starts: int = 0
    """Failed starts in a row."""
    deaths: int = 0
    """Deaths in a row, without a unit done in between."""
    is_given_up: bool = False
    is_held: bool = False
    """Whether its devices are for others now, so that it must not start."""
    is_leaving: bool = False
    """Whether it gets nothing more and is held once it has nothing open."""
    closing: Any = None
    """The pending `close()` of an engine that is held from now on."""
    asked: float = 0.0
    """Time of time.monotonic at which its actor was asked for."""
    place: EnginePlace | None = None
    """The place of its actor, or of the last that had one."""
    node: str = ""
    """Ray's id of the node that its engine is on, or was on and will return to; empty if unknown,
    or if its ranks lie on several."""
    open_: dict[Any, dict[str, EngineUnit]] = field(default_factory=dict)
    """Generator of a lease -> its units that have no receipt yet, by name."""
    last_reason: str = ""
    failed_nodes: set[str] = field(default_factory=set)
    """Ray's ids of the nodes on which it was given up."""
    is_moved: bool = False
    """Whether it must start on `node`, since it was given up elsewhere."""

    @property
    def is_waiting(self) -> bool:
        """Whether its actor waits for devices."""
        return self.starting is not None and not self.is_placed

    @property
    def devices(self) -> set[tuple[str, str]]:
        """(Ray's id of the node, id of the GPU) of each GPU that its actor has, if they are known.

        None are if its ranks lie on several nodes.
        """
        place = self.place if self.is_placed else None
        return {(place.node_id, device) for device in place.devices} if place else set()

    @property
    def is_up(self) -> bool:
        return self.engine is not None and self.starting is None and self.closing is None

    @property
    def has_devices(self) -> bool:
        """Whether it holds devices, or is to start on them again."""
        return not self.is_given_up and (not self.is_held or self.engine is not None)

    @property
    def num_open(self) -> int:
        return sum(len(units) for units in self.open_.values())

    def end(self) -> None:
        """Ends its engine, if it has one."""
        if self.engine is not None:
            self.engine.end()
        self.engine = self.starting = self.closing = None
        self.is_placed = False
