"""How long answers will be, and how many requests they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.estimates.engines import Engines
from orca2_gen.estimates.observed import Observed
from orca2_gen.foresight.expected import Expected, product, within

OWN, SAME, OTHER = 1.15, 1.5, 2.0
"""Factors up to which the length of an answer is right that a preview of the run showed, the same
model on other tasks, and another model."""
DIRECT = "direct_answer"
SHORT = Expected(value=0.1, low=0.01, high=0.4)
"""Share of its budget that a direct answer takes of which nothing is known."""
USUAL = Expected(value=0.4, low=0.1, high=0.9)
"""The same of any other answer."""
FEWEST_ROWS = 3
"""Rows that say something about a strategy."""
LENGTH_SPREAD = 0.8
"""Standard deviation of the logarithm of answers' lengths, by which few rows are doubted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowLength:
    """One row, with all of its requests."""

    tokens: Expected
    """Tokens that are generated for it."""
    requests: Expected


def row_length(
    engines: Engines,
    strategy: str,
    observed: Sequence[Observed],
    *,
    max_tokens: int,
    requests: Expected,
) -> RowLength:
    """The length of a row under a strategy, or under any if it is empty.

    Args:
        engines: the planned engines.
        strategy: the row's.
        observed: what earlier runs showed.
        max_tokens: most tokens of a request.
        requests: requests of a row of which nothing is known: calls, and attempts.
    """
    of_stage = [each for each in observed if each.stage == engines.stage]
    same = [each for each in of_stage if engines.is_model_of(each)]
    own = [each for each in same if each.is_own]
    for runs, factor in ((own, OWN), (same, SAME), (of_stage, OTHER)):
        rows, num_requests, tokens = _counted(runs, strategy)
        if rows >= FEWEST_ROWS and tokens:
            # Nobody writes more than the budget lets him, whatever an earlier one was.
            each = min(tokens / max(1, num_requests), max_tokens)
            doubt = factor * math.exp(LENGTH_SPREAD / math.sqrt(rows))
            return RowLength(
                tokens=within(each * num_requests / rows, doubt),
                requests=within(num_requests / rows, factor**0.5),
            )
    share = SHORT if strategy == DIRECT else USUAL
    return RowLength(tokens=product(share.times(max_tokens), requests), requests=requests)


def _counted(runs: Sequence[Observed], strategy: str) -> tuple[int, int, int]:
    """Rows, requests and completion tokens of a strategy, or of all if it is empty."""
    rows = requests = tokens = 0
    for run in runs:
        for name, answers in run.answers.items():
            if strategy in ("", name):
                rows += run.rows.get(name, 0)
                requests += answers.requests
                tokens += answers.completion_tokens
    return rows, requests, tokens
