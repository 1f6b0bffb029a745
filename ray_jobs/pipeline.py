"""The whole path on one page, stage by stage: each commits its units to the ledger, so any of them
can be run again.

tasks -> problems -> scores -> selections -> rationales -> examples -> dataset         (and:
evaluation)
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayTaskError

from orca2_gen.config import engine_directory
from orca2_gen.config_schema import TaskConfig
from orca2_gen.dataset import DatasetPlan, DatasetSummary, write_dataset
from orca2_gen.ledger import Ledger, Receipt
from orca2_gen.lengths import Room
from orca2_gen.plan import rooms, selection_rule
from orca2_gen.selection import Group, blocks
from orca2_gen.shards import FileEntry
from orca2_gen.strategies import load_strategies
from ray_jobs import file_stages
from ray_jobs.leases import EngineUnit, EraseLease, ReadLease, ScoreUnit, SelectLease, TeachUnit
from ray_jobs.receipts import unwrapped
from ray_jobs.run import Run, run_engines, run_files, unit_name


def run_all(run: Run) -> DatasetSummary:
    """The dataset of a run, made from its tasks; what is committed already is not made again."""
    read_tasks(run)
    score_student(run)
    select_strategies(run)
    teach(run)
    erase(run)
    return build_dataset(run)


def read_tasks(run: Run) -> None:
    """Commits every task file as problems that fit all engines."""
    read_files(run, "problems", run.config.tasks, rooms(run.config))


def score_student(run: Run) -> None:
    """Commits the scores of every block that the policy needs, of the model the policy looks at."""
    rule = selection_rule(run.config)
    teacher = run.config.selection.policy == "teacher_best"
    units: list[EngineUnit] = []
    of_task = _by_task(run.ledger, "problems")
    for group in groups(run):
        files = [receipt.files[0] for receipt in of_task[group.name]]
        for block in blocks(group, rule):
            name = unit_name(run, "scores", f"{group.name}-{block.index:06d}")
            if (name.stage, name.unit) not in run.ledger.units:
                units.append(
                    ScoreUnit(
                        name=name,
                        rows=_rows(files, block.problems),
                        strategies=block.strategies,
                        role="teacher" if teacher else "student",
                        max_tokens=run.config.scoring.max_tokens,
                    )
                )
    requests = run.config.selection.block_size * len(rule.strategies)
    run_engines(
        run, "scores", run.config.teacher if teacher else run.config.student, units, requests
    )


def select_strategies(run: Run) -> None:
    """Commits one Selection per group."""
    rule = selection_rule(run.config)
    leases = []
    for group in groups(run):
        name = unit_name(run, "selections", group.name)
        if (name.stage, name.unit) not in run.ledger.units:
            scored = tuple(
                (
                    block.index,
                    run.ledger.units["scores", f"{group.name}-{block.index:06d}"].files[0],
                )
                for block in blocks(group, rule)
            )
            leases.append(SelectLease(name=name, group=group, rule=rule, blocks=scored))
    run_files(run, "selections", file_stages.select_strategy, leases)


def teach(run: Run) -> None:
    """Commits the teacher's rationales for every problem, under the strategy its group selected."""
    names = [group.name for group in groups(run)]
    undecided = [name for name in names if ("selections", name) not in run.ledger.units]
    if undecided or not run.ledger.committed("problems"):
        raise ValueError(
            f"{run.run_dir} holds no selection for {', '.join(undecided) or 'any task'}; "
            f"run `orca2 score` first"
        )
    units: list[EngineUnit] = []
    of_task = _by_task(run.ledger, "problems")
    for task in run.config.tasks:
        for receipt in of_task.get(task.name, ()):
            name = unit_name(run, "rationales", receipt.unit)
            if (name.stage, name.unit) not in run.ledger.units and receipt.counts["accepted"]:
                selection = run.ledger.units["selections", task.name].files[0]
                units.append(TeachUnit(name=name, problems=receipt.files[0], selection=selection))
    run_engines(run, "rationales", run.config.teacher, units, run.config.rows_per_unit)


def erase(run: Run) -> None:
    """Commits the training examples: instruction erased, encoded for the student."""
    leases = [
        EraseLease(name=unit_name(run, "examples", receipt.unit), rationales=receipt.files[0])
        for receipt in run.ledger.committed("rationales")
        if ("examples", receipt.unit) not in run.ledger.units
    ]
    run_files(run, "examples", file_stages.erase_rationales, leases)


def build_dataset(run: Run) -> DatasetSummary:
    """The `datasets` directory of all committed examples, with proof and manifest."""
    started = time.monotonic()
    plan = DatasetPlan(
        examples=tuple(receipt.files[0] for receipt in run.ledger.committed("examples")),
        tokenizer=engine_directory(run.config.student),
        prompts=run.config.erasure.prompts,
        examples_per_shard=run.config.dataset.examples_per_shard,
        key=run.keys["examples"],
        name=run.run_dir.name,
    )
    build = ray.remote(num_cpus=1, max_retries=0)(write_dataset)
    with run.track("dataset", None):
        try:
            ref = build.remote(run.run_dir, plan, load_strategies(run.config.strategies))
            summary: DatasetSummary = ray.get(ref)
        except RayTaskError as error:
            raise unwrapped(error) from None
    run.seconds["dataset"] = time.monotonic() - started
    return summary


def read_files(run: Run, stage: str, tasks: Sequence[TaskConfig], rooms: tuple[Room, ...]) -> None:
    committed = frozenset(receipt.unit for receipt in run.ledger.committed(stage))
    leases = [
        ReadLease(
            task=task,
            rows_per_unit=run.config.rows_per_unit,
            rooms=rooms,
            stage=stage,
            stage_key=run.keys[stage],
            driver=run.driver,
            committed=committed,
        )
        for task in tasks
    ]
    run_files(run, stage, file_stages.read_problems, leases, total=None)


def groups(run: Run) -> list[Group]:
    """The selection groups with at least one accepted problem, in the config's order."""
    of_task = _by_task(run.ledger, "problems")
    counts = {
        task.name: sum(receipt.files[0].rows for receipt in of_task.get(task.name, ()))
        for task in run.config.tasks
    }
    return [Group(name=name, num_problems=num) for name, num in counts.items() if num]


def _by_task(ledger: Ledger, stage: str) -> dict[str, list[Receipt]]:
    """Task -> its receipts of a stage, in the order of its file."""
    found: dict[str, list[Receipt]] = {}
    for receipt in ledger.committed(stage):
        found.setdefault(receipt.unit.rpartition("-")[0], []).append(receipt)
    return found


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
