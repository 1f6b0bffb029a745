"""The overlapped schedule: scoring, selecting and teaching in one loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from orca2_gen.config.arguments import selection_rule
from orca2_gen.run_directory.ledger import Receipt
from ray_jobs import file_stages
from ray_jobs.cluster import cluster_nodes, devices_by_node
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.engines.placement import placement_on
from ray_jobs.run import Run, engine_work, file_work, tally_of
from ray_jobs.sharing import Side, share
from ray_jobs.units import (
    committed_problems,
    groups,
    is_decided,
    score_units,
    select_leases,
    teach_units,
)

STAGE = "scores and rationales"
LOOK_SECONDS = 5.0
"""So often it is looked which nodes there are: they may be lost, and others may come."""


@dataclass(slots=True)
class _Devices:
    """What the cluster has, asked now and then."""

    device: Literal["gpu", "cpu"]
    found: dict[str, int] = field(default_factory=dict)
    due: float = 0.0

    def by_node(self) -> dict[str, int]:
        if time.monotonic() >= self.due:
            self.found = devices_by_node(cluster_nodes(), self.device)
            self.due = time.monotonic() + LOOK_SECONDS
        return self.found


def score_and_teach(run: Run) -> None:
    """Commits scores, selections and rationales at once: a group is taught as soon as it is
    decided, while others are still scored. Units, names and rows are those of the three stages.
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
    is_race = selection_rule(run.config).is_race
    scored, chosen, taught = (tally_of(run, s) for s in ("scores", "selections", "rationales"))
    with (
        run.track(STAGE, None) as show,
        engine_work(
            run, student, blocks, scored, after_scores, is_shared=True, are_held=not blocks
        ) as scoring,
        engine_work(
            run, teacher, to_teach, taught, show, is_shared=True, are_held=True
        ) as teaching,
    ):
        selecting = file_work(run, file_stages.select_strategy, to_select, chosen, after_selection)
        first = Side(work=scoring, placement=placement_on(student, run.nodes))
        second = Side(work=teaching, placement=placement_on(teacher, run.nodes))
        works = (scoring, selecting, teaching)
        # As planned: while all nodes with GPUs are lost, cores are none.
        on_gpus = "gpu" in (first.placement.device, second.placement.device)
        devices = _Devices("gpu" if on_gpus else "cpu")
        dispatch(run.ledger, works, lambda: share(first, second, devices.by_node()))
    run.seconds[STAGE] = time.monotonic() - started
