"""Planted score tables: a student's scores on problems under strategies, with a known truth.

Scores are 0 or 1 and share the problems' difficulty, so that strategies agree on most problems, as
real ones do. The spread of the strategies' skills is chosen so that the gap between the best two
means has the wanted median over the tables; nothing else is chosen by looking at a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARED = 0.6
"""The problem's share in what decides a cell: paired scores keep 0.6 to 0.7 of the variance of
unpaired ones."""
HELD_OUT_PROBLEMS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTable:
    """One task's full grid."""

    scores: Floats
    """[S, N]"""
    tokens: Floats
    """[S] completion tokens of one cell: 1 to 10 times those of the cheapest."""
    held_out: Floats
    """[S] means on problems that no method sees."""

    @property
    def means(self) -> Floats:
        means: Floats = self.scores.mean(axis=1)
        return means


def top_gap(table: ScoreTable) -> float:
    """The gap between the best two means."""
    means = np.sort(table.means)
    return float(means[-1] - means[-2])


def planted_tables(
    num_tables: int, num_problems: int, num_strategies: int, gap: float, seed: int
) -> list[ScoreTable]:
    """Tables whose median top gap is about `gap`."""
    low, high = 0.0, 3.0
    for _ in range(20):
        spread = (low + high) / 2
        drawn = _draw(num_tables, num_problems, num_strategies, spread, seed)
        if np.median([top_gap(table) for table in drawn]) < gap:
            low = spread
        else:
            high = spread
    return _draw(num_tables, num_problems, num_strategies, high, seed)


def _draw(
    num_tables: int, num_problems: int, num_strategies: int, spread: float, seed: int
) -> list[ScoreTable]:
    rng = np.random.default_rng(seed)
    total = num_problems + HELD_OUT_PROBLEMS
    tables = []
    for _ in range(num_tables):
        skill = rng.normal(0.0, 0.5) + spread * rng.normal(size=(num_strategies, 1))
        difficulty = np.sqrt(SHARED) * rng.normal(size=total)
        own = np.sqrt(1 - SHARED) * rng.normal(size=(num_strategies, total))
        scores = (skill > difficulty + own).astype(float)
        tables.append(
            ScoreTable(
                scores=scores[:, :num_problems],
                tokens=rng.uniform(1.0, 10.0, size=num_strategies),
                held_out=scores[:, num_problems:].mean(axis=1),
            )
        )
    return tables
