"""The stages that need no engine: functions from a lease to receipts, each run in a Ray task."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from orca2_gen.chat import Rendering
from orca2_gen.config.arguments import (
    engine_rendering,
    held_out_tasks,
    removes_near,
    task_source,
)
from orca2_gen.config.load import engine_directory, read_config
from orca2_gen.config.schema import Config
from orca2_gen.dataset.figures import DatasetSummary
from orca2_gen.dataset.write import DatasetPlan, write_dataset
from orca2_gen.erasure import erase
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.provenance.inputs import Inputs, TaskWatch, recorded_chat
from orca2_gen.provenance.recorded import read_recorded
from orca2_gen.provenance.row_origins import teacher_facts, unit_origins
from orca2_gen.provenance.run_facts import run_facts
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import OPEN, group_name
from orca2_gen.selection.decision import next_step
from orca2_gen.tasks.copies import matches_file
from orca2_gen.tasks.counts import FELL_SHORT, NEAR_DUPLICATES, PASSED_OVER, reason_counts
from orca2_gen.tasks.matches import NEAR, read_matches
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.sampling import Sample
from orca2_gen.tasks.soundness import no_rows
from ray_jobs.dispatch.leases import DecidedGroup, ReadLease, UnitLease


def read_problems(
    run_dir: Path, config: Config, inputs: Inputs, lease: ReadLease
) -> Iterator[Receipt]:
    """The receipts of a task's units, in order.

    They hold problems that fit every engine, and rejections with file and line.

    Raises:
        ChangedInput: a file that is read has changed since the run began.
        ValueError: the files cannot be read to their end, or hold no row.
    """
    held_out = held_out_tasks(config) if lease.task.few_shot is not None else ()
    watch = TaskWatch(inputs, (lease.task, *held_out))
    made: deque[Receipt] = deque()
    try:
        for receipt in _read_units(run_dir, config, inputs, lease):
            made.append(receipt)
            if watch.is_due:
                watch.check()  # a unit leaves only after a check that follows its rows
                while made:  # Ray sends values into a generator, which a list would refuse
                    yield made.popleft()
    except ValueError:
        watch.check()  # a file that was replaced meanwhile may break anywhere
        raise
    watch.check()
    while made:
        yield made.popleft()


def _read_units(
    run_dir: Path, config: Config, inputs: Inputs, lease: ReadLease
) -> Iterator[Receipt]:
    task, strategies = lease.task, inputs.strategies
    budgets = [
        length_budget(room, recorded_chat(inputs, room.tokenizer, room.rendering), strategies)
        for room in lease.rooms
    ]
    source = task_source(task)
    matches = read_matches(matches_file(lease.copies, task.name)) if lease.copies else []
    near = {} if removes_near(config) else {m.problem_id: m for m in matches if m.reason == NEAR}
    read = read_task(
        source,
        inputs.taxonomy,
        held_out=[task_source(other) for other in held_out_tasks(config)],
        fits=lambda p: isinstance(plan_length(p, strategies, budgets, lease.stage), Problem),
        copies={m.ordinal: m for m in matches if m.problem_id not in near},
        stage=lease.stage,
    )
    counts = _sample_counts(read.sample) if read.sample else {}
    select_by = config.selection.select_by if lease.stage == "problems" else "task"
    is_empty = True
    for unit, group, chunk in _chunks(task.name, read.rows, lease.rows_per_unit, select_by):
        is_empty = False
        of_unit, counts = counts, {}  # the first unit counts what the sample passed over
        if unit in lease.committed:
            continue
        planned = [
            row
            if isinstance(row, Rejection)
            else plan_length(row, strategies, budgets, lease.stage)
            for row in chunk
        ]
        rejected = [row for row in planned if isinstance(row, Rejection)]
        accepted = [row for row in planned if isinstance(row, Problem)]
        of_unit |= reason_counts(rejected)
        if num_near := sum(problem.problem_id in near for problem in accepted):
            of_unit |= {NEAR_DUPLICATES: num_near}
        if num_open := sum(problem.answer_type == "open" for problem in accepted):
            of_unit |= {OPEN: num_open}
        name = UnitName(
            stage=lease.stage,
            stage_key=lease.stage_key,
            unit=unit,
            group=group,
            attempt=lease.attempt,
            driver=lease.driver,
        )
        yield write_unit(run_dir, name, accepted, Problem, rejected, of_unit)
    if is_empty:
        raise no_rows(source)


def _sample_counts(sample: Sample) -> dict[str, int]:
    short = {FELL_SHORT: len(sample.shortfalls)} if sample.shortfalls else {}
    return {PASSED_OVER: sample.num_passed_over, **short}


def _chunks(
    task: str, rows: Iterator[Problem | Rejection], rows_per_unit: int, select_by: str
) -> Iterator[tuple[str, str, list[Problem | Rejection]]]:
    """The name, group and rows of each unit; one open unit per group is held in memory."""
    names = (f"{task}-{index:06d}" for index in itertools.count())
    waiting: dict[str, list[Problem | Rejection]] = {}
    for row in rows:
        group = group_name(row, select_by) if isinstance(row, Problem) else task
        chunk = waiting.setdefault(group, [])
        chunk.append(row)
        if len(chunk) == rows_per_unit:
            yield next(names), group, waiting.pop(group)
    for group, chunk in waiting.items():
        yield next(names), group, chunk


def select_strategy(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[DecidedGroup]
) -> Iterator[Receipt]:
    """The receipt of a group's Selection."""
    group, rule = lease.made_from.group, lease.made_from.rule
    blocks = lease.made_from.blocks
    scored = {index: read_records(run_dir, entry, StudentScore) for index, entry in blocks}
    selection = next_step(group, rule, scored)
    assert isinstance(selection, Selection), f"{group.name} still has an open block"
    yield write_unit(run_dir, lease.name, [selection], Selection)


def erase_rationales(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[FileEntry]
) -> Iterator[Receipt]:
    """The receipt of a unit of training examples, made from a file of rationales."""
    rendering = engine_rendering(config.student, inputs.template_date)
    chat = recorded_chat(inputs, engine_directory(config.student), rendering)
    results = [
        erase(
            rationale,
            chat=chat,
            strategies=inputs.strategies,
            prompts=config.erasure.prompts,
            max_tokens=config.student.max_model_len,
            keeps_thought=config.rationales.thoughts == "keep",
        )
        for rationale in read_records(run_dir, lease.made_from, Rationale)
    ]
    examples = [r for r in results if isinstance(r, Example)]
    rejections = [r for r in results if isinstance(r, Rejection)]
    yield write_unit(run_dir, lease.name, examples, Example, rejections)


def make_dataset(
    run_dir: Path, inputs: Inputs, plan: DatasetPlan, rendering: Rendering
) -> tuple[DatasetSummary, list[str]]:
    """The summary of RUN/dataset, which is written here, and lines for people."""
    chat = recorded_chat(inputs, plan.tokenizer, rendering)
    lines: list[str] = []
    # Here and not in the driver, which reads no rows and hands on no more than it must.
    recorded, ledger = read_recorded(run_dir), read_ledger(run_dir)
    plan = dataclasses.replace(
        plan,
        origins=unit_origins(ledger),
        teacher=teacher_facts(recorded, read_config(run_dir / "config.json")),
        facts=run_facts(recorded, ledger),
    )
    return write_dataset(run_dir, plan, chat, inputs.strategies, lines.append), lines
