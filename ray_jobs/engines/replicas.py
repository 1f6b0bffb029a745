"""The engines of one model, started, watched and started again.

Nothing here waits: starts are requested, and `settle` takes in their results, so that one slow or
broken engine never keeps the others from their work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.run_directory.digests import ChangedInput
from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.dispatch.receipts import unwrapped
from ray_jobs.engines.devices import Devices
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.placement import PlacedEngine
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.room import Room
from ray_jobs.engines.versions import Versions, check_versions

MAX_DEATHS_IN_A_ROW = 48
"""Deaths without a unit done in between. One problem that kills every engine is found after at most
3 + log2(rows of a unit) deaths, several adjacent ones after a few more; and an engine counts as up
only once it has generated a token. This many in a row look like a bad machine."""
MAX_BACKOFF_SECONDS = 60.0
CLOSE_SECONDS = 10.0
LOOK_SECONDS = 5.0
"""Seconds between looks at what is free, while an engine waits for it or could be tried again."""
MOST_NODES = 2
"""Nodes on which a replica is tried before it stays given up: what fails on both is rarely the
nodes' fault."""


class Replicas:
    """All replicas of a model."""

    def __init__(
        self,
        start: Callable[[int, str], PlacedEngine],
        count: int,
        limits: DispatchConfig,
        say: Callable[[str], None],
        *,
        are_held: bool = False,
        record: Callable[[Versions], None] = lambda versions: None,
        devices: Devices | None = None,
        keep_nodes: bool = False,
    ) -> None:
        """Starts nothing yet: `settle` does.

        Args:
            start: replica and the node that it should be on -> a new engine, not yet up.
            count: number of engines.
            limits: limits at which to give up.
            say: function that takes a line for people.
            are_held: whether no replica starts before it is released.
            record: function that takes the versions that the engines run, once they are known.
            devices: GPUs for these engines; None for engines that need none.
            keep_nodes: whether a replica starts again on the node that it was on.
        """
        self._devices, self._keep_nodes = devices or Devices(say), keep_nodes
        self._look_due = 0.0
        self._start, self._limits, self._say, self._record = start, limits, say, record
        self.has_died = False
        """Whether any engine has died; a time measured then says nothing."""
        self._versions: list[Versions] = []
        self._slow_hosts: set[str] = set()
        self.all = [Replica(index=index, is_held=are_held) for index in range(count)]

    @property
    def working(self) -> list[Replica]:
        """The replicas that may be given units."""
        return [replica for replica in self.all if replica.is_up and not replica.is_leaving]

    @property
    def pending(self) -> list[Any]:
        """The refs that `ray.wait` can wait for: of engines that are starting or ending."""
        found = [ref for r in self.all for ref in (r.starting, r.closing)]
        return [ref for ref in found if ref is not None]

    def settle(self, ready: Collection[Any] = ()) -> None:
        """Takes in engines that came up or failed to start, and starts those that are due.

        Raises:
            RuntimeError: fewer than `min_replicas` are left.
            ValueError: engines run different versions of packages that determine rows.
            ChangedInput: a model is not the one that the driver recorded.
        """
        now = time.monotonic()
        if now >= self._look_due and any(r.is_waiting or r.is_given_up for r in self.all):
            self._look_due = now + LOOK_SECONDS
            self._look_for_room(now)
        for replica in self.all:
            if replica.starting is not None and replica.starting in ready:
                self._take_in(replica, now)
            elif replica.starting is not None and now > replica.due:
                self._fail(replica, f"was not up after {self._limits.start_seconds:g} s")
            elif replica.closing is not None:
                if replica.closing in ready or now > replica.due:
                    replica.end()
            elif replica.is_leaving and replica.is_up and not replica.open_:
                self._hold(replica)
            elif replica.engine is None and self._is_due(replica, now):
                replica.engine = self._start(replica.index, self._bound_to(replica))
                replica.starting = replica.engine.actor.placed.remote()
                replica.asked, replica.due = now, now + self._limits.start_seconds

        if all(r.engine is None and (r.is_held or r.is_given_up) for r in self.all):
            self._devices.end()  # another model may need the GPUs that were left out

    def _bound_to(self, replica: Replica) -> str:
        """The node that a replica starts on; empty if any will do."""
        return replica.node if self._keep_nodes or replica.is_moved else ""

    def _look_for_room(self, now: float) -> None:
        """Tells who waits for GPUs that others hold, and tries replicas that were given up again.

        A start that waits for them may take its time; one that Ray has lost may not.
        """
        room = self._devices.room()
        for replica in self.all:
            if replica.is_given_up:
                self._move(replica, room)
        waiting = [r for r in self.all if r.is_waiting and not room.fits(self._bound_to(r))]
        for replica in waiting:
            replica.due = now + self._limits.start_seconds
        self._devices.tell(waiting, room, now)

    def _move(self, replica: Replica, room: Room) -> bool:
        """Whether a replica that was given up is tried on a node where it was not tried before."""
        nodes = [node for node in room.nodes if node not in replica.failed_nodes]
        if not nodes or not replica.failed_nodes or len(replica.failed_nodes) >= MOST_NODES:
            return False
        replica.is_given_up, replica.is_moved, replica.node = False, True, nodes[0]
        replica.failed_starts = replica.deaths = 0
        replica.due = time.monotonic()
        hosts = {node.node_id: node.host for node in room.free}
        self._say(f"engine {replica.index} is tried on {hosts[nodes[0]]} now")
        return True

    def died(self, replica: Replica, error: Exception, *, is_alone: bool) -> list[EngineUnit]:
        """The units that were open on an engine that died.

        The replica is started again, unless it has died too often in a row or was leaving.

        Raises:
            RuntimeError: it is given up, and fewer than min_replicas are left.
        """
        units = [unit for lease in replica.open_.values() for unit in lease.values()]
        replica.open_.clear()
        replica.deaths += 1
        self.has_died = True
        assert replica.engine is not None
        replica.last_reason = replica.engine.why(error)
        # Ray may call an actor unavailable that still lives and would go on writing.
        replica.end()
        names = ", ".join(unit.name.unit for unit in units) or "nothing"
        alone = ", tried alone" if is_alone else ""
        self._say(f"engine {replica.index} died with {names} open{alone}: {replica.last_reason}")
        if replica.deaths >= MAX_DEATHS_IN_A_ROW:
            self._give_up(replica, f"died {replica.deaths} times in a row")
        replica.is_held = replica.is_leaving
        # A problem that ran alone is to blame for a death, and a first death may have any cause.
        wait = 0.0 if is_alone or replica.deaths == 1 else self._back_off(replica.deaths - 1)
        replica.due = time.monotonic() + wait
        return units

    def release(self, replica: Replica, node: str = "") -> None:
        """Lets a held replica start; `node` is the likely place of its devices."""
        assert replica.engine is None
        replica.is_held = replica.is_leaving = False
        replica.node = node
        replica.due = time.monotonic()

    def leave(self, replica: Replica) -> None:
        """Lets a replica finish its open units and then give its devices to others."""
        replica.is_leaving = True
        if replica.starting is not None or replica.engine is None:
            replica.end()
            replica.is_held = True

    def _hold(self, replica: Replica) -> None:
        assert replica.engine is not None
        replica.is_held = True
        replica.closing = replica.engine.actor.close.remote()
        replica.due = time.monotonic() + CLOSE_SECONDS

    @staticmethod
    def _is_due(replica: Replica, now: float) -> bool:
        return not (replica.is_given_up or replica.is_held) and now >= replica.due

    def succeeded(self, replica: Replica) -> None:
        """Forgets the past deaths of a replica that has done a unit."""
        replica.deaths = 0

    def close(self) -> None:
        """Ends all engines; afterwards their processes are told to end and no lease runs."""
        closing = [r.engine.actor.close.remote() for r in self.all if r.is_up and r.engine]
        if closing:
            # One that is dead already, or does not answer, is ended all the same.
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends all engines at once."""
        for replica in self.all:
            replica.end()
        self._devices.end()

    def _take_in(self, replica: Replica, now: float) -> None:
        """Takes in the answer of an actor that starts: it has its devices, or its engine is up."""
        try:
            answer: Any = ray.get(replica.starting)
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, ChangedInput):
                raise unwrapped(error) from None  # another start would find the same
            assert replica.engine is not None
            self._fail(replica, replica.engine.why(error))
            return
        if not replica.is_placed:
            self._take_place(replica, answer, now)
            return
        self._devices.failed -= replica.devices
        replica.starting = None
        replica.failed_starts = 0
        self._take_versions(replica, answer)

    def _take_versions(self, replica: Replica, versions: Versions) -> None:
        """Records what an engine that came up runs, if no other ran that before.

        Raises:
            ValueError: it runs other versions than the first engine.
        """
        if versions in self._versions:
            return
        if self._versions:
            node = replica.place.node if replica.place else "another node"
            name = f"engine {replica.index} on {node}"
            self._say(check_versions(self._versions[0], versions, name))
        self._versions.append(versions)
        self._record(versions)

    def _take_place(self, replica: Replica, place: EnginePlace, now: float) -> None:
        """Lets an actor that has its devices load the model; its time counts from now.

        One on a GPU that failed keeps it from others instead, if there is another one.
        """
        assert replica.engine is not None
        replica.is_placed, replica.place = True, place
        if self._devices.keeps_out(replica, self._bound_to(replica)):
            replica.due = now
            return
        if replica.engine.group is None:
            replica.node = place.node_id
        if place.niceness > 0 and place.node not in self._slow_hosts:
            self._slow_hosts.add(place.node)
            self._say(
                f"engines on {place.node} run at nice {place.niceness}, as Ray starts its workers, "
                "and may not change that, so any other process there slows them; start Ray with "
                "RAY_worker_niceness=0"
            )
        replica.starting = replica.engine.actor.ready.remote()
        replica.due = now + self._limits.start_seconds

    def _fail(self, replica: Replica, reason: str) -> None:
        self._devices.failed |= replica.devices
        replica.end()
        replica.failed_starts += 1
        replica.last_reason = reason
        if replica.failed_starts >= self._limits.max_failed_starts:
            self._give_up(replica, f"failed to start {replica.failed_starts} times in a row")
            return
        wait = self._back_off(replica.failed_starts)
        replica.due = time.monotonic() + wait
        self._say(f"engine {replica.index} did not start; next try in {wait:.0f} s: {reason}")

    def _back_off(self, failures: int) -> float:
        """The seconds to wait after this number of failures in a row."""
        return min(self._limits.backoff_seconds * 2.0 ** (failures - 1), MAX_BACKOFF_SECONDS)

    def _give_up(self, replica: Replica, what: str) -> None:
        replica.is_given_up = True
        replica.times_given_up += 1
        replica.failed_nodes |= {replica.node} - {""}
        if self._move(replica, self._devices.room()):
            return
        left = sum(not r.is_given_up for r in self.all)
        if left < self._limits.min_replicas:
            raise RuntimeError(
                f"engine {replica.index} {what}, and {left} of {len(self.all)} engines are left "
                f"(min_replicas {self._limits.min_replicas}); the last reason: "
                f"{replica.last_reason}"
            )
        self._say(f"engine {replica.index} {what} and is given up; engines left: {left}")
