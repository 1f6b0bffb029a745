"""The stages that need no engine, as functions from a lease to receipts; each runs in a Ray
task.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from orca2_gen.chat import load_chat
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.erasure import erase
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import OPEN, group_name
from orca2_gen.selection.decision import next_step
from orca2_gen.strategies import load_strategies
from orca2_gen.tasks.read import TaskSource, read_task
from orca2_gen.tasks.taxonomy import load_taxonomy
from ray_jobs.dispatch.leases import EraseLease, ReadLease, SelectLease


def read_problems(run_dir: Path, config: Config, lease: ReadLease) -> Iterator[Receipt]:
    """Receipts of a task's units, in order: problems that every engine can take, and rejections
    with file and line.
    """
    strategies = load_strategies(config.strategies)
    budgets = [length_budget(room, strategies) for room in lease.rooms]
    task = lease.task
    read = read_task(
        _source(task),
        load_taxonomy(config.taxonomy),
        held_out=[_source(other) for other in config.evaluation.tasks],
        fits=lambda p: isinstance(plan_length(p, strategies, budgets), Problem),
    )
    counts = {"passed_over": read.sample.num_passed_over} if read.sample else {}
    select_by = config.selection.select_by if lease.stage == "problems" else "task"
    for unit, group, chunk in _chunks(task.name, read.rows, lease.rows_per_unit, select_by):
        of_unit, counts = counts, {}  # the first unit tells what the sample passed over
        if unit in lease.committed:
            continue
        planned = [
            row if isinstance(row, Rejection) else plan_length(row, strategies, budgets)
            for row in chunk
        ]
        rejected = [
            dataclasses.replace(row, stage=lease.stage)
            for row in planned
            if isinstance(row, Rejection)
        ]
        accepted = [row for row in planned if isinstance(row, Problem)]
        if num_open := sum(problem.answer_type == "open" for problem in accepted):
            of_unit |= {OPEN: num_open}
        yield write_unit(
            run_dir,
            UnitName(
                stage=lease.stage,
                stage_key=lease.stage_key,
                unit=unit,
                group=group,
                attempt=lease.attempt,
                driver=lease.driver,
            ),
            accepted,
            Problem,
            rejected,
            of_unit,
        )


def _source(task: TaskConfig) -> TaskSource:
    return TaskSource(**task.model_dump(exclude={"path"}), path=Path(task.path))


def _chunks(
    task: str, rows: Iterator[Problem | Rejection], rows_per_unit: int, select_by: str
) -> Iterator[tuple[str, str, list[Problem | Rejection]]]:
    """Unit names, groups and rows, all of a unit's rows in one group; a file without a row is one
    empty unit, which says that it was read. One open unit per group is held in memory.
    """
    names = (f"{task}-{index:06d}" for index in itertools.count())
    waiting: dict[str, list[Problem | Rejection]] = {}
    is_empty = True
    for row in rows:
        is_empty = False
        group = group_name(row, select_by) if isinstance(row, Problem) else task
        chunk = waiting.setdefault(group, [])
        chunk.append(row)
        if len(chunk) == rows_per_unit:
            yield next(names), group, waiting.pop(group)
    for group, chunk in waiting.items() if not is_empty else [(task, [])]:
        yield next(names), group, chunk


def select_strategy(run_dir: Path, config: Config, lease: SelectLease) -> Iterator[Receipt]:
    """The receipt of a group's Selection."""
    scored = {index: read_records(run_dir, entry, StudentScore) for index, entry in lease.blocks}
    selection = next_step(lease.group, lease.rule, scored)
    assert isinstance(selection, Selection), f"{lease.group.name} still has an open block"
    yield write_unit(run_dir, lease.name, [selection], Selection)


def erase_rationales(run_dir: Path, config: Config, lease: EraseLease) -> Iterator[Receipt]:
    """The receipt of a unit of training examples."""
    strategies = load_strategies(config.strategies)
    chat = load_chat(engine_directory(config.student))
    results = [
        erase(
            rationale,
            chat=chat,
            strategies=strategies,
            prompts=config.erasure.prompts,
            max_tokens=config.student.max_model_len,
        )
        for rationale in read_records(run_dir, lease.rationales, Rationale)
    ]
    yield write_unit(
        run_dir,
        lease.name,
        [r for r in results if isinstance(r, Example)],
        Example,
        [r for r in results if isinstance(r, Rejection)],
    )
