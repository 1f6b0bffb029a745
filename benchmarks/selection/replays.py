"""Ways to choose a strategy from a stored grid, each on the problems in a random order.

All are paired: the strategies still in are scored on the same problems. Halving and the uniform
subset get at most the tokens that the race uses in the same order. Halving uses fewer if its last
two are scored on all problems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.selection.score_tables import Floats, ScoreTable
from orca2_gen.selection.race import ROUNDING, Terms, advance, start

Order = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A strategy, by its row, and the tokens spent on choosing it."""

    strategy: int
    tokens: float


def best_of(means: Floats, tokens: Floats, among: list[int]) -> int:
    """The row with the highest mean; ties go to the fewest tokens, as `selection.choose` does."""
    best = max(means[i] for i in among)
    return min((i for i in among if means[i] >= best - ROUNDING), key=lambda i: tokens[i])


def grid(table: ScoreTable) -> Pick:
    """The choice of the full grid."""
    rows = list(range(len(table.tokens)))
    spent = float(table.tokens.sum() * table.scores.shape[1])
    return Pick(strategy=best_of(table.means, table.tokens, rows), tokens=spent)


def race(table: ScoreTable, order: Order, *, delta: float, block_size: int) -> Pick:
    """The choice of the race."""
    num_strategies, num_problems = table.scores.shape
    terms = Terms(
        num_problems=num_problems, num_strategies=num_strategies, delta=delta, indifference=0.0
    )
    standing = start(tuple(map(str, range(num_strategies))))
    rows, spent = list(range(num_strategies)), 0.0
    for first in range(0, num_problems, block_size):
        problems = order[first : first + block_size]
        spent += len(problems) * float(table.tokens[rows].sum())
        if first + len(problems) == num_problems:
            break  # every cell is known: no strategy falls any more
        standing = advance(standing, table.scores[rows][:, problems], terms)
        rows = [int(name) for name in standing.names]
        if len(rows) == 1:
            return Pick(strategy=rows[0], tokens=spent)
    return Pick(strategy=best_of(table.means, table.tokens, rows), tokens=spent)


def halving(table: ScoreTable, order: Order, budget: float) -> Pick:
    """The choice of sequential halving (Karnin, Koren and Somekh, 2013).

    Each round spends an equal part of the tokens, then keeps the better half.
    """
    rows, first, spent = list(range(len(table.tokens))), 0, 0.0
    rounds = math.ceil(math.log2(len(rows)))
    for _ in range(rounds):
        cost = float(table.tokens[rows].sum())
        num = min(len(order) - first, max(1, int(budget / rounds / cost)))
        first, spent = first + num, spent + num * cost
        means = table.scores[:, order[:first]].mean(axis=1)
        rows = sorted(rows, key=lambda i: (-means[i], table.tokens[i]))[: math.ceil(len(rows) / 2)]
    return Pick(strategy=rows[0], tokens=spent)


def uniform_subset(table: ScoreTable, order: Order, budget: float) -> Pick:
    """The choice after every strategy is scored on as many problems as the tokens allow."""
    cost = float(table.tokens.sum())
    num = min(len(order), max(1, int(budget / cost)))
    means = table.scores[:, order[:num]].mean(axis=1)
    rows = list(range(len(table.tokens)))
    return Pick(strategy=best_of(means, table.tokens, rows), tokens=num * cost)
