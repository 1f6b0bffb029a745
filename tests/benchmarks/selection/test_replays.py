"""Replays of stored grids spend the tokens they report and choose as their tables dictate."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.selection.replays import grid, halving, race, uniform_subset
from benchmarks.selection.score_tables import ScoreTable, planted_tables, top_gap


def table_of(seed: int, num_strategies: int = 5, num_problems: int = 60) -> ScoreTable:
    rng = np.random.default_rng(seed)
    return ScoreTable(
        scores=(rng.random((num_strategies, num_problems)) < rng.random((num_strategies, 1))) + 0.0,
        tokens=rng.uniform(1.0, 10.0, size=num_strategies),
        held_out=np.zeros(num_strategies),
    )


@given(seed=st.integers(0, 999), block_size=st.integers(1, 70))
def test_nobody_spends_more_than_the_grid_and_the_others_no_more_than_the_race(
    seed: int, block_size: int
) -> None:
    table = table_of(seed)
    order = np.random.default_rng(seed).permutation(60)
    raced = race(table, order, delta=0.05, block_size=block_size)
    assert 0 < raced.tokens <= grid(table).tokens + 1e-6
    cheapest = table.tokens.sum() * 3 + table.tokens.max()  # of one problem per round
    for pick in (halving(table, order, raced.tokens), uniform_subset(table, order, raced.tokens)):
        assert 0 < pick.tokens <= max(raced.tokens, cheapest) + 1e-6


@given(seed=st.integers(0, 999))
def test_with_all_tokens_the_subset_is_the_grid(seed: int) -> None:
    table = table_of(seed)
    order = np.random.default_rng(seed).permutation(60)
    assert uniform_subset(table, order, grid(table).tokens + 1e-6) == grid(table)


@given(seed=st.integers(0, 999))
def test_a_race_without_risk_picks_what_the_grid_picks(seed: int) -> None:
    table = table_of(seed)
    order = np.random.default_rng(seed).permutation(60)
    raced = race(table, order, delta=1e-290, block_size=8)
    assert raced.strategy == grid(table).strategy


def test_planted_tables_have_the_median_gap_that_was_asked_for() -> None:
    tables = planted_tables(120, 200, 5, 0.05, 3)
    assert abs(np.median([top_gap(table) for table in tables]) - 0.05) <= 0.005
    assert all(table.tokens.min() >= 1.0 and table.tokens.max() <= 10.0 for table in tables)
