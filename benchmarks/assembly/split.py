"""The pairs of a run -> the factor, its split by cause, and the tables for people.

With r for accepted rows per engine-second, over all pairs together:

    factor            r(ours) / r(usual)
    factor_careful    r(ours) / r(careful)
    first_accepted    r(careful) / r(usual): teacher samples that are not drawn once one is accepted
    race              r(replayed) / r(careful): student's cells that are not asked, on ray.data.llm
    packing           seconds of a bare engine for what we asked, fed in ray.data.llm's batches,
                      over those when each place is filled again at once
    overhead          r(ours) / r(replayed) / packing: what is left between the two paths for the
                      same requests, which is actors, dispatch, stages and copies, our race's waits
                      for its blocks, and writing and committing

`replayed` is what our run asked, asked of ray.data.llm. So first_accepted x race x packing x
overhead is the factor, and race x packing x overhead that over the careful assembly.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.assembly.feeds import Fed
from benchmarks.assembly.made import Held, Made, mean_grade
from orca2_gen.records import Problem

CAUSES = ("race", "first_accepted", "packing", "overhead")
GOALS = {"factor": 2.0, "factor_careful": 1.3}
CONTENDERS = ("ours", "usual", "careful", "replayed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One run of each contender on the same problems."""

    ours: Made
    usual: Made
    careful: Made
    replayed: Made
    """Our requests on ray.data.llm."""
    fed: Fed
    """Our requests on a bare engine, student and teacher together."""


def factors(pairs: Sequence[Pair]) -> dict[str, float]:
    """The factors and the causes, over all of these pairs together."""
    rate = {name: _rate([getattr(pair, name) for pair in pairs]) for name in CONTENDERS}
    fed = functools.reduce(operator.add, [pair.fed for pair in pairs])
    packing = fed.in_batches / fed.refilled
    return {
        "factor": rate["ours"] / rate["usual"],
        "factor_careful": rate["ours"] / rate["careful"],
        "race": rate["replayed"] / rate["careful"],
        "first_accepted": rate["careful"] / rate["usual"],
        "packing": packing,
        "overhead": rate["ours"] / rate["replayed"] / packing,
    }


def _rate(found: Sequence[Made]) -> float:
    return sum(len(made.rows) for made in found) / sum(made.engine_seconds for made in found)


def document(
    pairs: Sequence[Pair], problems: Sequence[Problem], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures for machines: the six first, then what they come from."""
    each = [factors([pair]) for pair in pairs]
    return {
        **{name: round(value, 3) for name, value in factors(pairs).items()},
        "min_max": {
            name: [round(pick(one[name] for one in each), 3) for pick in (min, max)]
            for name in each[0]
        },
        "pairs": len(pairs),
        "problems": len(problems),
        "contenders": {
            name: [_figures(getattr(pair, name), problems) for pair in pairs] for name in CONTENDERS
        },
        "bare_engine_seconds": [
            {"in_batches": round(p.fed.in_batches, 2), "refilled": round(p.fed.refilled, 2)}
            for p in pairs
        ],
        "other_choices": [
            {
                name: sum(getattr(pair, name).chosen[g] != s for g, s in pair.ours.chosen.items())
                for name in ("usual", "careful")
            }
            for pair in pairs
        ],
        "settings": dict(settings),
    }


def _figures(made: Made, problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "rows": len(made.rows),
        "mean_grade": round(mean_grade(made.rows, problems), 4),
        "engine_seconds": round(made.engine_seconds, 2),
        "rows_per_engine_second": round(made.rows_per_engine_second, 2),
        "student": _engine(made.student),
        "teacher": _engine(made.teacher),
    }


def _engine(held: Held) -> dict[str, Any]:
    return {
        "seconds": round(held.seconds, 2),
        "start_seconds": round(held.start_seconds, 1),
        "requests": held.num_requests,
        "prompt_tokens": held.prompt_tokens,
        "completion_tokens": held.completion_tokens,
    }


def contender_table(found: Mapping[str, Any]) -> Table:
    """What each contender made and took, a row for each pair."""
    table = Table(
        title=f"Rows of {found['problems']} problems, and the engines that they took",
        title_justify="left",
    )
    table.add_column("contender", no_wrap=True)
    names = ("pair", "rows", "grade", "student s", "teacher s", "starts s")
    for name in (*names, "student asked", "teacher asked", "tokens", "rows / engine-s"):
        table.add_column(name, justify="right")
    for name, passes in found["contenders"].items():
        for number, each in enumerate(passes, start=1):
            student, teacher = each["student"], each["teacher"]
            table.add_row(
                name,
                str(number),
                str(each["rows"]),
                f"{each['mean_grade']:.3f}",
                f"{student['seconds']:.1f}",
                f"{teacher['seconds']:.1f}",
                f"{student['start_seconds'] + teacher['start_seconds']:.0f}",
                str(student["requests"]),
                str(teacher["requests"]),
                str(student["completion_tokens"] + teacher["completion_tokens"]),
                f"{each['rows_per_engine_second']:.1f}",
            )
    return table


def factor_table(found: Mapping[str, Any]) -> Table:
    """The factors beside their goals, and the causes."""
    table = Table(title="Ours over the assemblies: all pairs (least - most)", title_justify="left")
    for name in ("", "ratio", "goal"):
        table.add_column(name, justify="left" if not name else "right")
    for name in (*GOALS, *CAUSES):
        low, high = found["min_max"][name]
        goal = f"{GOALS[name]:.1f}" if name in GOALS else ""
        table.add_row(name, f"{found[name]:.3f} ({low:.3f} - {high:.3f})", goal)
    return table
