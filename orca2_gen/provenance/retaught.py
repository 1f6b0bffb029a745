"""A run's stored rationales, accepted and refused, under today's grader and without the teacher.

An attempt depends on its problem, on the strategy's texts and on how the teacher is asked, not on
what became of the attempts before it. So all that determines rationales must be equal, except the
grader, which is what changes, and what only decides when to stop asking: `verify`, `max_attempts`
and `per_problem`. The attempts at a problem are then gone through again, in order, as `teach` goes
through them: an accepted answer may be refused now, and a refused one accepted. Where that needs an
attempt that is not stored, the problem is open again, for the teacher; so are problems that are
asked in other words or under another strategy.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca2_gen.provenance.recorded import differences
from orca2_gen.provenance.refused_faults import is_asked_today
from orca2_gen.provenance.stage_keys import PREVIOUS
from orca2_gen.rationales import Asking, Taught, retaught
from orca2_gen.records import Problem, Rationale
from orca2_gen.run_directory.ledger import Ledger, stage_key
from orca2_gen.strategies import Strategies

MAY_DIFFER = ("grader", "verify", "max_attempts", "per_problem")
"""Determinants of rationales that may differ."""


def teaching_difference(
    ledger: Ledger, recorded: Mapping[str, Any], determinants: Mapping[str, Any]
) -> str:
    """What keeps a run's rationales from being gone through again here; empty if nothing does."""
    key = ""
    for stage in PREVIOUS:  # up to rationales, each rests on the one before it
        if stage not in recorded:
            return f"config.json does not say what its {stage} were made of"
        key = stage_key(key, recorded[stage])
        if stage == "rationales":
            break
    if any(receipt.stage_key != key for receipt in ledger.committed("rationales")):
        return "config.json does not match its rationales"
    old, new = (
        {name: value for name, value in made_of["rationales"].items() if name not in MAY_DIFFER}
        for made_of in (recorded, determinants)
    )
    return differences(old, new)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retaught:
    """The stored answers to some problems, gone through again."""

    taught: tuple[Taught, ...]
    """By problem, of all that need no further answer."""
    stored: tuple[Rationale, ...]
    """The answers to all problems that may be taken over, as they were, in order."""
    num_open: int
    """Problems that need an answer that is not stored."""
    now_refused: int
    """Accepted answers that are refused now, of problems that need no further one."""
    now_accepted: int
    """Refused answers that are accepted now."""


def reteach(
    problems: Sequence[Problem],
    strategy: str,
    stored: Iterable[Rationale],
    *,
    strategies: Strategies,
    asking: Asking,
) -> Retaught:
    """The Retaught of problems that are taught under a strategy here.

    Args:
        problems: this run's.
        strategy: the strategy that is selected here.
        stored: another run's answers, accepted and refused.
        strategies: this run's.
        asking: how this run asks.
    """
    by_id: dict[str, list[Rationale]] = defaultdict(list)
    for row in stored:
        by_id[row.problem_id].append(row)
    taken = [
        sorted(
            (
                row
                for row in by_id.get(problem.problem_id, ())
                if row.strategy == strategy and is_asked_today(row, problem, strategies)
            ),
            key=lambda row: row.attempt,
        )
        for problem in problems
    ]

    async def work() -> list[Taught | None]:
        pairs = zip(problems, taken, strict=True)
        return await asyncio.gather(*(retaught(each, asking, rows) for each, rows in pairs))

    found = asyncio.run(work())
    done = [each for each in found if each is not None]
    was = {(row.problem_id, row.attempt): row.fault for rows in taken for row in rows}
    return Retaught(
        taught=tuple(done),
        stored=tuple(row for rows in taken for row in rows),
        num_open=found.count(None),
        now_refused=sum(
            not was[row.problem_id, row.attempt] for each in done for row in each.refused
        ),
        now_accepted=sum(
            bool(was[row.problem_id, row.attempt]) for each in done for row in each.rationales
        ),
    )
