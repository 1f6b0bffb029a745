"""Committed rows of a run -> its figures, as plain values that JSON can hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from orca2_gen.records import Rationale, Rejection, Selection, StrategySummary, StudentScore
from orca2_gen.selection.decision import cell_value, wilson_interval

Figures = dict[str, Any]
UNDECIDED = ("truncated", "unparsed", "ungraded")
"""Outcomes that are no verdict."""


def scoring_figures(selections: Sequence[Selection]) -> list[Figures]:
    """The figures of every task under every strategy, in the selections' order."""
    return [
        {
            "task": selection.group,
            "strategy": each.strategy,
            "is_chosen": each.strategy == selection.strategy,
            "num_scored": each.num_scored,
            "accuracy": each.mean,
            "interval": [each.low, each.high],
            "tokens": each.mean_completion_tokens,
            **_shares(each),
        }
        for selection in selections
        for each in selection.summaries
    ]


def _shares(summary: StrategySummary) -> dict[str, float]:
    counts = {
        "unparsed": summary.num_unparsed,
        "truncated": summary.num_truncated,
        "ungraded": summary.num_ungraded,
        "forced": summary.num_forced,
    }
    num = summary.num_scored
    return {name: count / num if num else 0.0 for name, count in counts.items()}


def choice_figures(selections: Sequence[Selection]) -> list[Figures]:
    """The choice of every task, the reason and whether it is fragile."""
    names = ("strategy", "reason", "fragile", "num_scored_problems", "num_problems")
    return [{"task": s.group, **{name: getattr(s, name) for name in names}} for s in selections]


def undecided_figures(selections: Sequence[Selection]) -> Figures:
    """The cells of all tasks and strategies, and how many of them have no verdict.

    `num_undecided_by_text` counts those whose own text decides nothing, `num_undecided` those that
    a forced ending did not decide either.
    """
    cells = [each for selection in selections for each in selection.summaries]
    num = sum(each.num_scored for each in cells)
    lost = sum(each.num_truncated + each.num_unparsed + each.num_ungraded for each in cells)
    forced = sum(each.num_forced for each in cells)
    return {
        "num_cells": num,
        "num_undecided_by_text": lost + forced,
        "num_undecided": lost,
        "share": lost / num if num else 0.0,
    }


def teaching_figures(
    rationales: Sequence[Rationale], rejections: Sequence[Rejection]
) -> list[Figures]:
    """By task: problems taught, accepted rationales, their tokens, and rejections by reason."""
    accepted: dict[str, list[Rationale]] = defaultdict(list)
    for each in rationales:
        accepted[each.task].append(each)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for rejected in rejections:
        reasons[rejected.problem_id.partition("/")[0]][rejected.reason] += 1
    found = []
    for task in sorted({*accepted, *reasons}):
        rows = accepted[task]
        num_taught = len({each.problem_id for each in rows})
        tokens = sum(each.num_completion_tokens for each in rows)
        found.append(
            {
                "task": task,
                "num_problems": num_taught + reasons[task].total(),
                "num_accepted": len(rows),
                "num_sampled": sum(each.attempt > 0 for each in rows),
                "num_thoughts": sum(bool(each.reasoning) for each in rows),
                "tokens": tokens / len(rows) if rows else 0.0,
                "rejected": dict(reasons[task].most_common()),
            }
        )
    return found


def held_out_figures(scores: Sequence[StudentScore]) -> dict[str, Figures]:
    """Task -> figures of a model's answers, and under `all` those of all tasks together.

    The accuracy of `all` is the mean over problems, not over tasks. In `accuracy_unforced` an
    answer that a forced ending gave counts as wrong.
    """
    by_task: dict[str, list[StudentScore]] = defaultdict(list)
    for each in scores:
        by_task[each.task].append(each)
    figures = {task: _answers(found) for task, found in sorted(by_task.items())}
    return figures | {"all": _answers(scores)}


def _answers(scores: Sequence[StudentScore]) -> Figures:
    num = len(scores)
    mean = sum(map(cell_value, scores)) / num if num else 0.0
    own = sum(cell_value(each) for each in scores if not each.is_forced)
    outcomes = Counter(each.outcome for each in scores)
    shares = {name: outcomes[name] / num if num else 0.0 for name in UNDECIDED}
    return {
        "num_problems": num,
        "accuracy": mean,
        "accuracy_unforced": own / num if num else 0.0,
        "interval": list(wilson_interval(mean, num)),
        "tokens": sum(each.num_answer_tokens for each in scores) / num if num else 0.0,
        **shares,
        "forced": sum(each.is_forced for each in scores) / num if num else 0.0,
    }


def speed_figures(
    seconds: Mapping[str, float], num_engines: Mapping[str, int], num_rows: int
) -> Figures:
    """The seconds that engines worked for a dataset, and its rows per such second.

    Args:
        seconds: stage -> wall seconds, the engine's start included.
        num_engines: stage whose engines the dataset needs -> how many.
        num_rows: rows of the dataset.
    """
    spent = sum(seconds.get(stage, 0.0) * number for stage, number in num_engines.items())
    return {
        "engine_seconds": spent,
        "num_rows": num_rows,
        "rows_per_engine_second": num_rows / spent if spent else 0.0,
    }
