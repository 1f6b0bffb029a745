"""What is still to be done of a stage: committed units -> the units and leases that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orca2_gen.ledger import Receipt
from orca2_gen.plan import selection_rule
from orca2_gen.selection import Group, blocks
from orca2_gen.shards import FileEntry
from ray_jobs.leases import EngineUnit, ScoreUnit, SelectLease, TeachUnit
from ray_jobs.run import Run, unit_name

Problems = Mapping[str, Sequence[Receipt]]
"""Task -> receipts of its problems, in the order of its file."""


def committed_problems(run: Run) -> Problems:
    """The problems of the run's tasks."""
    found: dict[str, list[Receipt]] = {task.name: [] for task in run.config.tasks}
    for receipt in run.ledger.committed("problems"):
        found[receipt.unit.rpartition("-")[0]].append(receipt)
    return found


def groups(problems: Problems) -> list[Group]:
    """The selection groups with at least one accepted problem, in the config's order."""
    counts = {
        task: sum(receipt.files[0].rows for receipt in receipts)
        for task, receipts in problems.items()
    }
    return [Group(name=name, num_problems=num) for name, num in counts.items() if num]


def _rows(
    files: Sequence[FileEntry], numbers: Sequence[int]
) -> tuple[tuple[FileEntry, tuple[int, ...]], ...]:
    """Numbers of problems over a task's files -> each file with the rows wanted of it."""
    found = []
    first = 0
    for entry in files:
        rows = tuple(number - first for number in numbers if first <= number < first + entry.rows)
        first += entry.rows
        if rows:
            found.append((entry, rows))
    return tuple(found)


def scores_teacher(run: Run) -> bool:
    """Whether the policy looks at the teacher's own scores."""
    return run.config.selection.policy == "teacher_best"


def requests_of_block(run: Run) -> int:
    """Requests of one unit of scores."""
    return run.config.selection.block_size * len(selection_rule(run.config).strategies)


def score_units(run: Run, group: Group, problems: Problems) -> list[EngineUnit]:
    """The group's blocks that are not committed."""
    rule = selection_rule(run.config)
    files = [receipt.files[0] for receipt in problems[group.name]]
    units: list[EngineUnit] = []
    for block in blocks(group, rule):
        name = unit_name(run, "scores", f"{group.name}-{block.index:06d}")
        if (name.stage, name.unit) not in run.ledger.units:
            units.append(
                ScoreUnit(
                    name=name,
                    rows=_rows(files, block.problems),
                    strategies=block.strategies,
                    role="teacher" if scores_teacher(run) else "student",
                    max_tokens=run.config.scoring.max_tokens,
                )
            )
    return units


def select_leases(run: Run, group: Group) -> list[SelectLease]:
    """The group's selection, all of whose blocks are committed, unless it is committed too."""
    rule = selection_rule(run.config)
    name = unit_name(run, "selections", group.name)
    if (name.stage, name.unit) in run.ledger.units:
        return []
    scored = tuple(
        (block.index, run.ledger.units["scores", f"{group.name}-{block.index:06d}"].files[0])
        for block in blocks(group, rule)
    )
    return [SelectLease(name=name, group=group, rule=rule, blocks=scored)]


def teach_units(run: Run, task: str, problems: Problems) -> list[EngineUnit]:
    """The units of a task whose selection is committed that have no rationales yet."""
    selection = run.ledger.units["selections", task].files[0]
    units: list[EngineUnit] = []
    for receipt in problems[task]:
        name = unit_name(run, "rationales", receipt.unit)
        if (name.stage, name.unit) not in run.ledger.units and receipt.counts["accepted"]:
            units.append(TeachUnit(name=name, problems=receipt.files[0], selection=selection))
    return units
