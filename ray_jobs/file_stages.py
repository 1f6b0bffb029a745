"""The stages that need no engine, as functions from a lease to receipts; each runs in a Ray
task.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from orca2_gen.chat import load_chat
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.erasure import erase
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.provenance.regrade import asked_cells, regrade_all, rejudge_all
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.ledger import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import OPEN, block_unit, group_name, open_blocks, rows_by_file
from orca2_gen.selection.decision import next_step
from orca2_gen.strategies import load_strategies
from orca2_gen.tasks import TaskSource, read_task
from orca2_gen.tasks.taxonomy import load_taxonomy
from ray_jobs.dispatch.leases import (
    EraseLease,
    ReadLease,
    RegradeEvaluationLease,
    RegradeGroupLease,
    RejudgeLease,
    SelectLease,
)
from ray_jobs.dispatch.unit_receipts import (
    REGRADED,
    SURVIVORS,
    reply_counts,
    survivor_bits,
    survivors_of,
    token_counts,
)


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


def regrade_group(run_dir: Path, config: Config, lease: RegradeGroupLease) -> Iterator[Receipt]:
    """Receipts of a group's blocks, made of another run's scores, graded anew and cut to what is
    asked here.

    A block that lacks a cell is left to an engine; in a race so are those behind it.
    """
    group, rule = lease.group, lease.rule
    scores, rejections = _stored(lease.source, lease.stored)
    read = functools.cache(lambda entry: read_records(run_dir, entry, Problem))
    blocks = {i: read_records(run_dir, r.files[0], StudentScore) for i, r in lease.made}
    left = {index: survivors_of(receipt, rule) for index, receipt in lease.made}
    waiting = deque(open_blocks(group, rule, left))
    while waiting:
        block = waiting.popleft()
        asked = rows_by_file(lease.problems, block.problems)
        problems = [read(entry)[row] for entry, rows in asked for row in rows]
        kept = asked_cells(scores, rejections, problems, block.strategies)
        if kept is None:
            continue
        regraded = regrade_all(kept, problems)
        counts = token_counts(regraded) | {REGRADED: len(regraded)}
        if rule.is_race:
            blocks[block.index] = regraded
            counts[SURVIVORS] = survivor_bits(group, rule, blocks)
        ids = {problem.problem_id for problem in problems}
        name = UnitName(
            stage="scores",
            stage_key=lease.stage_key,
            unit=block_unit(group, block.index),
            group=group.name,
            attempt=lease.attempt,
            driver=lease.driver,
        )
        lost = [rejection for rejection in rejections if rejection.problem_id in ids]
        receipt = write_unit(run_dir, name, regraded, StudentScore, lost, counts)
        if rule.is_race:
            left[block.index] = survivors_of(receipt, rule)
            waiting.extend(open_blocks(group, rule, left))
        yield receipt


def rejudge_block(run_dir: Path, config: Config, lease: RejudgeLease) -> Iterator[Receipt]:
    """The receipt of a block's judgements; none if an answer is to be put to the judge."""
    stored, rejections = _stored(lease.source, lease.stored)
    scores = read_records(run_dir, lease.scores, StudentScore)
    problems: dict[str, Problem] = {}
    for entry, wanted in lease.rows:
        read = read_records(run_dir, entry, Problem)
        problems |= {read[row].problem_id: read[row] for row in wanted}
    rejudged = rejudge_all(scores, problems, stored, rejections)
    if rejudged is not None:
        counts = reply_counts(rejudged) | {REGRADED: len(rejudged)}
        scored = {score.problem_id for score in scores}  # what is lost here already stays so
        lost = [rejection for rejection in rejections if rejection.problem_id in scored]
        yield write_unit(run_dir, lease.name, rejudged, StudentScore, lost, counts)


def regrade_evaluation(
    run_dir: Path, config: Config, lease: RegradeEvaluationLease
) -> Iterator[Receipt]:
    """The receipt of a unit of an evaluation, graded anew; none if it lacks a cell."""
    scores, rejections = _stored(lease.source, lease.stored)
    problems = read_records(run_dir, lease.problems, Problem)
    kept = asked_cells(scores, rejections, problems, lease.messages)
    if kept is not None:
        regraded = regrade_all(kept, problems)
        counts = token_counts(regraded) | {REGRADED: len(regraded)}
        yield write_unit(run_dir, lease.name, regraded, StudentScore, rejections, counts)


def _stored(source: Path, files: Sequence[FileEntry]) -> tuple[list[StudentScore], list[Rejection]]:
    """Scores and rejections of some units."""
    scores: list[StudentScore] = []
    rejections: list[Rejection] = []
    for entry in files:
        if entry.path.startswith("rejections/"):
            rejections += read_records(source, entry, Rejection)
        else:
            scores += read_records(source, entry, StudentScore)
    return scores, rejections


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
