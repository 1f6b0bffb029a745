"""The overlapped schedule: scoring, selecting and teaching in one loop, on shared devices.

The student's engines start first. When the teacher has work and no engine, the fewest student
engines of one node make room for one; once nothing is left to score, the teacher takes the
student's devices. They move back only for a unit whose engine died when no other was left, so
hardly any model is loaded twice for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orca2_gen.run_directory.units import Receipt
from ray_jobs import file_stages
from ray_jobs.cluster import cluster_nodes, devices_by_node
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.engines.placement import Placement, placement_on
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.work import EngineWork
from ray_jobs.model_engines import engine_work
from ray_jobs.run import Run
from ray_jobs.stages import file_work, tally_of
from ray_jobs.units import (
    committed_problems,
    groups,
    is_decided,
    score_units,
    select_leases,
    teach_units,
)

ANYWHERE = ""
"""Node of an engine whose place is not known yet, or whose ranks lie on several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two models: its work, and the devices that one of its engines takes."""

    work: EngineWork
    placement: Placement

    @property
    def engines(self) -> list[Replica]:
        """The engines that hold devices, or are to start on them."""
        return [replica for replica in self.work.replicas.all if replica.has_devices]

    @property
    def is_finished(self) -> bool:
        return not (self.work.waiting or self.work.suspects)

    @property
    def wanted(self) -> int:
        """The number of engines with work to do, beyond those that are up or starting."""
        left = max(0, len(self.work.waiting) - self.work.room)
        number = math.ceil(left / self.work.units_per_engine)
        if self.work.suspects and not self.engines:
            number = max(number, 1)
        return number - sum(not replica.is_up for replica in self.engines)


def share(first: Side, second: Side, on_node: Mapping[str, int]) -> None:
    """Moves devices to where the work is.

    Args:
        first: side whose engines hold their devices from the start.
        second: side whose engines are held at the start.
        on_node: Ray's id of a node -> its GPUs now; without GPUs, one entry with the cores.
    """
    _shed([first, second], on_node)
    if first.is_finished:
        for replica in first.engines:
            if not (replica.open_ or replica.is_leaving):
                first.work.replicas.leave(replica)
    elif all(replica.is_leaving for replica in first.engines):
        _admit(first, second, 1, on_node)
    _admit(second, first, second.wanted, on_node)
    if not any(replica.is_leaving for replica in first.engines):
        # Free devices that the second has no use for, e.g. those of a lost node that is back.
        _admit(first, second, first.wanted, on_node, may_ask=False)


def _shed(sides: Sequence[Side], on_node: Mapping[str, int]) -> None:
    """Holds engines that wait for devices that the cluster has lost or Ray gave to another."""
    left, unplaced = free(sides, on_node), _unplaced(sides, on_node)
    for side in sides:
        for replica in side.engines:
            lacking = sum(left.values()) < sum(unplaced)
            if side.placement.executor != "ray":
                needed = 0 if replica.node in left else side.placement.ranks
                lacking |= left.get(replica.node, max(left.values())) < needed
            if lacking and not replica.is_up and replica.closing is None:
                # The last engine stays: it may want more cores than there are.
                if sum(len(each.engines) for each in sides) == 1:
                    return
                side.work.replicas.leave(replica)
                replica.node = ANYWHERE
                left, unplaced = free(sides, on_node), _unplaced(sides, on_node)


def free(sides: Sequence[Side], on_node: Mapping[str, int]) -> dict[str, int]:
    """Node -> devices that no engine has or will have; engines of _unplaced are not subtracted."""
    left = dict(on_node)
    for side in sides:
        for replica in side.engines:
            if side.placement.executor == "ray":
                for _ in range(side.placement.ranks):  # from the node with the most
                    left[max(left, key=lambda name: left[name])] -= 1
            elif replica.node in left:
                left[replica.node] -= side.placement.ranks
    return left


def _unplaced(sides: Sequence[Side], on_node: Mapping[str, int]) -> list[int]:
    """The ranks of each engine that starts on a node that only Ray knows so far."""
    return [
        side.placement.ranks
        for side in sides
        if side.placement.executor != "ray"
        for replica in side.engines
        if replica.node not in on_node
    ]


def _admit(
    taker: Side, giver: Side, number: int, on_node: Mapping[str, int], *, may_ask: bool = True
) -> None:
    """Releases up to `number` of the taker's engines, as far as there is room.

    If the taker has no engine at all, the giver makes room, provided that it may be asked.
    """
    replicas = taker.work.replicas
    held = [r for r in replicas.all if r.is_held and not r.has_devices and not r.is_given_up]
    for replica in held[: max(0, number)]:
        node = _node_with_room(taker, [taker, giver], on_node)
        if node is None and not (taker.engines or giver.engines):
            # It will not fit later either: its start says so, or succeeds on few cores.
            node = ANYWHERE
        if node is not None:
            replicas.release(replica, node)
            continue
        if not taker.engines and may_ask:
            _make_room(taker, giver, on_node)
        return


def _node_with_room(taker: Side, sides: Sequence[Side], on_node: Mapping[str, int]) -> str | None:
    """The node where one more engine surely fits; ANYWHERE if across nodes; None if nowhere."""
    left = free(sides, on_node)
    needed = taker.placement.ranks + sum(_unplaced(sides, on_node))
    if taker.placement.executor == "ray":
        return ANYWHERE if sum(max(0, num) for num in left.values()) >= needed else None
    fitting = [node for node, num in left.items() if num >= needed]
    # The fullest node that has room, which leaves the others whole.
    return min(fitting, key=lambda node: left[node], default=None)


def _make_room(taker: Side, giver: Side, on_node: Mapping[str, int]) -> None:
    """Tells the fewest of the giver's engines that make room for one of the taker's to leave.

    It tells none while some are leaving already, nor all that are up while the giver has more to
    do.
    """
    engines = giver.engines
    is_moving = any(r.is_leaving or r.closing is not None for r in engines)
    across = "ray" in (giver.placement.executor, taker.placement.executor)
    # Starting engines say where they are once they are up.
    if is_moving or not (across or all(r.node in on_node for r in engines)):
        return
    left, ranks = free([taker, giver], on_node), giver.placement.ranks
    places = (
        {"": (engines, sum(left.values()))}
        if across
        else {node: ([r for r in engines if r.node == node], num) for node, num in left.items()}
    )
    choices = []
    for there, num in places.values():
        may_go = [r for r in there if r is not giver.work.alone]
        count = math.ceil((taker.placement.ranks - num) / max(1, ranks))
        if 0 < count <= len(may_go):
            choices.append(may_go[-count:])
    choice = min(choices, key=len, default=[])
    # An empty queue is not enough: an open block of a race brings the next one.
    if giver.work.is_done or any(r.is_up and r not in choice for r in engines):
        for replica in choice:
            giver.work.replicas.leave(replica)


STAGE = "scores and rationales"
NODE_LOOK_SECONDS = 5.0
"""Seconds between checks which nodes exist: some may be lost, and others may come."""


@dataclass(slots=True)
class _Devices:
    """The devices of the cluster, looked up every NODE_LOOK_SECONDS."""

    device: Literal["gpu", "cpu"]
    found: dict[str, int] = field(default_factory=dict)
    due: float = 0.0

    def by_node(self) -> dict[str, int]:
        if time.monotonic() >= self.due:
            self.found = devices_by_node(cluster_nodes(), self.device)
            self.due = time.monotonic() + NODE_LOOK_SECONDS
        return self.found


def score_and_teach(run: Run) -> None:
    """Commits scores, selections and rationales in one loop.

    A group is taught as soon as it is decided, while others are still scored. Units, names and rows
    are those of the three stages.
    """
    started = time.monotonic()
    problems = committed_problems(run)
    found = {group.name: group for group in groups(problems)}
    to_score = {name: score_units(run, group, problems) for name, group in found.items()}
    to_select = [lease for group in found.values() for lease in select_leases(run, group)]
    undecided = {name for name, group in found.items() if not is_decided(run, group)}
    selected = [g for g in found.values() if ("selections", g.stem) in run.ledger.units]
    to_teach = [unit for group in selected for unit in teach_units(run, group, problems)]

    def after_scores(receipt: Receipt) -> None:
        group = found[receipt.group]
        if is_race:
            scoring.waiting.extendleft(score_units(run, group, problems))
        # Two receipts of a group can be committed together: the first then finds it decided.
        if group.name in undecided and is_decided(run, group):
            undecided.discard(group.name)
            selecting.waiting.extend(select_leases(run, group))
        show(receipt)

    def after_selection(receipt: Receipt) -> None:
        teaching.waiting.extend(teach_units(run, found[receipt.group], problems))
        show(receipt)

    student, teacher = run.config.student, run.config.teacher
    blocks = [unit for units in to_score.values() for unit in units]
    is_race = run.rule.is_race
    scored, chosen, taught = (tally_of(run, s) for s in ("scores", "selections", "rationales"))
    with (
        run.track(STAGE, None) as show,
        engine_work(
            *(run, "scores", student, blocks, scored, after_scores),
            is_shared=True,
            are_held=not blocks,
        ) as scoring,
        engine_work(
            *(run, "rationales", teacher, to_teach, taught, show), is_shared=True, are_held=True
        ) as teaching,
    ):
        selecting = file_work(run, file_stages.select_strategy, to_select, chosen, after_selection)
        first = Side(work=scoring, placement=placement_on(student, run.nodes))
        second = Side(work=teaching, placement=placement_on(teacher, run.nodes))
        works = (scoring, selecting, teaching)
        # The plan decides: while all nodes with GPUs are lost, cores do not replace them.
        on_gpus = "gpu" in (first.placement.device, second.placement.device)
        devices = _Devices("gpu" if on_gpus else "cpu")
        dispatch(run.ledger, works, lambda: share(first, second, devices.by_node()))
    run.seconds[STAGE] = time.monotonic() - started
