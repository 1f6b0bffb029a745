"""Functions from a lease to receipts of units made from another run's stored completions.

Each runs in a Ray task.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.provenance.regrade import asked_cells, regrade_all, rejudge_all
from orca2_gen.records import Problem, Rejection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.units import Receipt, UnitName, read_unit, write_unit
from orca2_gen.selection.blocks import (
    SURVIVORS,
    block_unit,
    open_blocks,
    rows_by_file,
    survivors_of,
)
from orca2_gen.selection.decision import survivor_bits
from ray_jobs.dispatch.leases import UnitLease
from ray_jobs.dispatch.unit_receipts import (
    REGRADED,
    reply_counts,
    token_counts,
)
from ray_jobs.regrading.leases import EvaluatedUnit, JudgedBlock, RegradeGroupLease


def regrade_group(
    run_dir: Path, config: Config, inputs: Inputs, lease: RegradeGroupLease
) -> Iterator[Receipt]:
    """The receipts of a group's blocks, made from another run's scores.

    These are regraded and cut to the cells that are asked here. A block that lacks a cell is left
    to an engine; in a race so are the blocks after it.
    """
    group, rule = lease.group, lease.rule
    scores: list[StudentScore] = []
    rejections: list[Rejection] = []
    for stored in lease.stored:
        accepted, rejected = read_unit(lease.source, stored, StudentScore)
        scores += accepted
        rejections += rejected
    read = functools.cache(lambda entry: read_records(run_dir, entry, Problem))
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
    stored, rejections = read_unit(block.source, block.stored, StudentScore)
    scores = read_records(run_dir, block.scores, StudentScore)
    problems: dict[str, Problem] = {}
    for entry, wanted in block.rows:
        read = read_records(run_dir, entry, Problem)
        problems |= {read[row].problem_id: read[row] for row in wanted}
    rejudged = rejudge_all(scores, problems, stored, rejections)
    if rejudged is not None:
        counts = reply_counts(rejudged) | {REGRADED: len(rejudged)}
        scored = {score.problem_id for score in scores}  # what is lost here already stays lost
        lost = [rejection for rejection in rejections if rejection.problem_id in scored]
        yield write_unit(run_dir, lease.name, rejudged, StudentScore, lost, counts)


def regrade_evaluation(
    run_dir: Path, config: Config, inputs: Inputs, lease: UnitLease[EvaluatedUnit]
) -> Iterator[Receipt]:
    """The receipt of a regraded unit of an evaluation; none if it lacks a cell."""
    unit = lease.made_from
    scores, rejections = read_unit(unit.source, unit.stored, StudentScore)
    problems = read_records(run_dir, unit.problems, Problem)
    kept = asked_cells(scores, rejections, problems, unit.messages)
    if kept is not None:
        regraded = regrade_all(kept, problems)
        counts = token_counts(regraded) | {REGRADED: len(regraded)}
        yield write_unit(run_dir, lease.name, regraded, StudentScore, rejections, counts)
