"""Functions from a lease to receipts of units made from another run's stored completions.

Each runs in a Ray task.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.provenance.matching import asked_alike, is_judged_alike
from orca2_gen.provenance.regrade import asked_cells, regrade_all, rejudge_all
from orca2_gen.provenance.retaught import reteach
from orca2_gen.provenance.row_origins import engine_of
from orca2_gen.records import Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.stored_answers import write_answers
from orca2_gen.run_directory.units import (
    Receipt,
    UnitName,
    read_refused,
    read_unit,
    write_unit,
)
from orca2_gen.selection.blocks import (
    SURVIVORS,
    block_unit,
    open_blocks,
    rows_by_file,
    survivors_of,
)
from orca2_gen.selection.decision import survivor_bits
from ray_jobs.dispatch.leases import UnitLease, asking_of
from ray_jobs.dispatch.unit_receipts import (
    NOW_ACCEPTED,
    NOW_REFUSED,
    REGRADED,
    reply_counts,
    token_counts,
)
from ray_jobs.engines.versions import engines_named
from ray_jobs.regrading.leases import EvaluatedUnit, JudgedBlock, RegradeGroupLease, TaughtUnit


def regrade_group(
    run_dir: Path, config: Config, inputs: Inputs, lease: RegradeGroupLease
) -> Iterator[Receipt]:
    """The receipts of a group's blocks, made from another run's scores.

    These are regraded and cut to the cells that are asked here. A block that lacks a cell is left
    to an engine; in a race so are the blocks after it. A cell whose problem is asked in other words
    here is lacking.
    """
    group, rule = lease.group, lease.rule
    scores, rejections = _stored(lease.source, lease.stored)
    read = functools.cache(lambda entry: read_records(run_dir, entry, Problem))
    if lease.older_problems is not None:
        older = _problems(lease.source, lease.older_problems)
        here = [problem for entry in lease.problems for problem in read(entry)]
        alike = asked_alike(older, here, rule.strategies, inputs.strategies)
        scores, rejections = _of_problems(alike, scores, rejections)
    blocks = {i: read_records(run_dir, r.accepted, StudentScore) for i, r in lease.made}
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


def rejudge_block(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[JudgedBlock]
) -> Iterator[Receipt]:
    """The receipt of a block's judgements; none if an answer must be put to the judge."""
    block = lease.made_from
    stored, rejections = _stored(block.source, block.stored)
    scores = read_records(run_dir, block.scores, StudentScore)
    problems: dict[str, Problem] = {}
    for entry, wanted in block.rows:
        read = read_records(run_dir, entry, Problem)
        problems |= {read[row].problem_id: read[row] for row in wanted}
    if block.older_problems is not None:
        older = _problems(block.source, block.older_problems)
        names = list(dict.fromkeys(score.strategy for score in scores))
        alike = asked_alike(older, problems.values(), names, inputs.strategies)
        judged_alike = {id_ for id_, (old, new) in alike.items() if is_judged_alike(old, new)}
        stored, rejections = _of_problems(judged_alike, stored, rejections)
    rejudged = rejudge_all(scores, problems, stored, rejections)
    if rejudged is not None:
        counts = reply_counts(rejudged) | {REGRADED: len(rejudged)}
        scored = {score.problem_id for score in scores}  # what is lost here already stays lost
        lost = [rejection for rejection in rejections if rejection.problem_id in scored]
        yield write_unit(run_dir, lease.name, rejudged, StudentScore, lost, counts)


def reteach_unit(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[TaughtUnit]
) -> Iterator[Receipt]:
    """The receipt of a unit's rationales, made from another run's answers.

    If an answer is missing there is none: what is stored is put beside the unit, for the teacher's
    engine, which asks for the rest.
    """
    unit, name = lease.made_from, lease.name
    problems = read_records(run_dir, unit.problems, Problem)
    [selection] = read_records(run_dir, unit.selection, Selection)
    stored: list[Rationale] = []
    for receipt in unit.stored:
        stored += read_records(unit.source, receipt.accepted, Rationale)
        stored += read_refused(unit.source, receipt, Rationale)
    found = reteach(
        problems,
        selection.strategy,
        stored,
        strategies=inputs.strategies,
        asking=asking_of(config.rationales, config.teacher, config.run_seed),
    )
    if found.num_open:
        if found.stored:
            engine = _engine_of(unit.source, unit.stored)
            write_answers(run_dir, name.unit, name.stage_key, found.stored, found.num_open, engine)
        return
    rows = [row for each in found.taught for row in each.rationales]
    kept = config.rationales.keep_refused
    counts = token_counts(rows) | {
        REGRADED: len(problems),
        NOW_REFUSED: found.now_refused,
        NOW_ACCEPTED: found.now_accepted,
    }
    yield write_unit(
        run_dir,
        name,
        rows,
        Rationale,
        [each.rejection for each in found.taught if each.rejection is not None],
        counts,
        refused=[row for each in found.taught for row in each.refused] if kept else [],
        engine=_engine_of(unit.source, unit.stored),
    )


def _engine_of(source: Path, receipts: Iterable[Receipt]) -> str:
    """The engine that made another run's units, as their files say; several are named together."""
    return engines_named(*(engine_of(source, receipt.accepted) for receipt in receipts))


def regrade_evaluation(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[EvaluatedUnit]
) -> Iterator[Receipt]:
    """The receipt of a regraded unit of an evaluation; none if it lacks a cell."""
    unit = lease.made_from
    scores, rejections = _stored(unit.source, unit.stored)
    problems = read_records(run_dir, unit.problems, Problem)
    if unit.older_problems is not None:
        older = _problems(unit.source, unit.older_problems)
        alike = asked_alike(older, problems, unit.messages, inputs.strategies)
        scores, rejections = _of_problems(alike, scores, rejections)
    kept = asked_cells(scores, rejections, problems, unit.messages)
    if kept is not None:
        regraded = regrade_all(kept, problems)
        counts = token_counts(regraded) | {REGRADED: len(regraded)}
        yield write_unit(run_dir, lease.name, regraded, StudentScore, rejections, counts)


def _stored(
    source: Path, receipts: Iterable[Receipt]
) -> tuple[list[StudentScore], list[Rejection]]:
    """The rows and the rejections of another run's units."""
    units = [read_unit(source, receipt, StudentScore) for receipt in receipts]
    scores = [score for accepted, _ in units for score in accepted]
    return scores, [rejection for _, rejected in units for rejection in rejected]


def _problems(run_dir: Path, entries: Iterable[FileEntry]) -> Iterator[Problem]:
    for entry in entries:
        yield from read_records(run_dir, entry, Problem)


def _of_problems(
    ids: Container[str], scores: Iterable[StudentScore], rejections: Iterable[Rejection]
) -> tuple[list[StudentScore], list[Rejection]]:
    """The scores and the rejections of these problems."""
    return (
        [score for score in scores if score.problem_id in ids],
        [rejection for rejection in rejections if rejection.problem_id in ids],
    )
