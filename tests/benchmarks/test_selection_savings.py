from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.selection.replays import Pick, grid
from benchmarks.selection.score_tables import planted_tables
from benchmarks.selection_savings import METHODS, figures, replay, replays

[TABLE] = planted_tables(1, 60, 4, 0.1, 3)


def test_the_grids_own_pick_has_no_regret_and_costs_the_grid() -> None:
    full = grid(TABLE)
    found = replay(TABLE, full)
    assert (found.agrees, found.regret, found.held_out_regret, found.token_share) == (True, 0, 0, 1)


@given(strategy=st.integers(0, 3), share=st.floats(0.01, 1.0))
def test_a_pick_is_charged_with_what_it_loses_on_the_grid(strategy: int, share: float) -> None:
    full = grid(TABLE)
    found = replay(TABLE, Pick(strategy=strategy, tokens=share * full.tokens))
    assert found.agrees == (strategy == full.strategy)
    assert found.regret == pytest.approx(TABLE.means.max() - TABLE.means[strategy])
    assert found.token_share == pytest.approx(share)


def test_figures_are_means_over_all_replays_and_the_worst_regret() -> None:
    found = list(replays([TABLE], 20, seed=0))
    shown = figures(found)
    for method in METHODS:
        regrets = [each[method].regret for each in found]
        assert shown["mean_regret"][method] == pytest.approx(np.mean(regrets), abs=1e-4)
        assert shown["max_regret"][method] == pytest.approx(max(regrets), abs=1e-4)
        agreed = sum(each[method].agrees for each in found)
        assert shown["agreement"][method] == pytest.approx(agreed / 20, abs=1e-4)
