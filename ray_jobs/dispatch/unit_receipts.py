"""Rows that an engine made of a unit, with its earlier parts -> the unit's files and receipt.

Beside its rows a receipt counts tokens, who is still in a race, and whether an engine worked at
all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orca2_gen.records import (
    Problem,
    Rationale,
    Rejection,
    StudentScore,
    engine_completions,
)
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt, read_refused, read_unit, write_unit
from orca2_gen.selection.blocks import SURVIVORS
from orca2_gen.selection.decision import survivor_bits
from ray_jobs.dispatch.leases import EngineUnit, JudgeUnit, Part, ScoreUnit, TeachUnit

REGRADED = "regraded"
"""Count in the receipt of a unit that no engine made: its rows are another run's completions,
graded again."""
NOW_REFUSED, NOW_ACCEPTED = "now_refused", "now_accepted"
"""Counts beside REGRADED in the receipt of a unit of rationales: answers whose verdict changed."""


def token_counts(rows: Sequence[StudentScore] | Sequence[Rationale]) -> dict[str, int]:
    """The engine's tokens for these rows, including attempts that were cut short and endings."""
    return _sums([completion for row in rows for completion in engine_completions(row)])


def reply_counts(rows: Sequence[StudentScore]) -> dict[str, int]:
    """The tokens of the judge's engine for these rows."""
    return _sums([reply for row in rows for reply in row.judgement])


def _sums(made: Sequence[Any]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(each.num_prompt_tokens for each in made),
        "completion_tokens": sum(each.num_completion_tokens for each in made),
        "cached_tokens": sum(
            each.num_cached_tokens for each in made if not isinstance(each, Rationale)
        ),
    }


ReadScores = Callable[[FileEntry], Sequence[StudentScore]]


def write_made(
    run_dir: Path,
    unit: EngineUnit,
    problems: Sequence[Problem],
    rows: list[Any],
    rejections: list[Rejection],
    read_scores: ReadScores,
    refused: Sequence[Rationale] = (),
    engine: str = "",
) -> Receipt:
    """The receipt of a unit, or of the part of it that was worked on.

    Args:
        run_dir: directory for its files.
        unit: unit as it was handed out.
        problems: all problems of the unit.
        rows: rows made now.
        rejections: rejections made now.
        read_scores: reader of the scores of earlier blocks.
        refused: the teacher's refused answers, as far as they are kept.
        engine: the engine that worked and its version.
    """
    record: type[Any] = Rationale if isinstance(unit, TeachUnit) else StudentScore
    kept = list(refused)
    part = unit.part or Part(first=0, last=len(problems))
    for receipt in part.done:
        accepted, rejected = read_unit(run_dir, receipt, record)
        rows += accepted
        rejections += rejected
        kept += read_refused(run_dir, receipt, Rationale)
    rejections += _given_up(unit, problems, part)
    if part.done or part.lost:  # in the order in which an undisturbed engine returns them
        place = {problem.problem_id: index for index, problem in enumerate(problems)}
        names = () if isinstance(unit, TeachUnit) else unit.strategies
        # What was made before the block opened (engines/ahead.py) may be of other problems too, or
        # under strategies that have fallen since.
        if names:
            rows = [row for row in rows if row.problem_id in place and row.strategy in names]
            assert len({(row.problem_id, row.strategy) for row in rows}) == len(rows)
        rows.sort(
            key=lambda row: (names.index(row.strategy) if names else 0, place[row.problem_id])
        )
        rejections.sort(key=lambda row: place[row.problem_id])
        kept.sort(key=lambda row: place[row.problem_id])  # attempts stay in their order
    counts = reply_counts(rows) if isinstance(unit, JudgeUnit) else token_counts(rows)
    is_part = unit.part is not None and not part.is_merge
    if isinstance(unit, ScoreUnit) and unit.race and not is_part:
        blocks = [*(read_scores(entry) for entry in unit.race.earlier), rows]
        counts[SURVIVORS] = survivor_bits(unit.race.group, unit.race.rule, dict(enumerate(blocks)))
    return write_unit(
        run_dir,
        unit.name,
        rows,
        record,
        rejections,
        counts,
        refused=kept,
        part=f"p{part.first}-{part.last}" if is_part else "",
        engine=engine,
    )


def _given_up(unit: EngineUnit, problems: Sequence[Problem], part: Part) -> list[Rejection]:
    return [
        Rejection(
            problem_id=problems[index].problem_id,
            stage=unit.name.stage,
            reason="engine_died",
            detail="the engines that worked on this problem alone died, twice in a row",
        )
        for index in part.lost
    ]
