from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.foresight.opening_races import opening_cells
from orca2_gen.selection.blocks import Group, Rule, permutation
from tests.foresight.rules import RULE

TOKENS = {"a": 10.0, "b": 20.0, "c": 30.0}


def groups_of(sizes: list[int]) -> list[Group]:
    return [
        Group(name=f"g{place}", num_problems=size, num_groups=len(sizes))
        for place, size in enumerate(sizes)
    ]


def cells_of(groups: list[Group], rule: Rule, num: int = 3) -> list[Counter[str]]:
    return opening_cells(groups, rule, TOKENS, np.random.default_rng(0), num)


@given(st.lists(st.integers(1, 400), max_size=30))
def test_a_race_takes_no_more_than_the_grid_and_each_strategy_at_least_once(
    sizes: list[int],
) -> None:
    groups = groups_of(sizes)
    most = sum(len(permutation(group, RULE)) for group in groups)
    for cells in cells_of(groups, RULE):
        assert all(min(1, most) <= cells[name] <= most + 1 for name in RULE.strategies)


@given(st.lists(st.integers(1, 400), max_size=30))
def test_a_full_grid_takes_every_cell(sizes: list[int]) -> None:
    groups = groups_of(sizes)
    rule = dataclasses.replace(RULE, method="full_grid")
    most = sum(len(permutation(group, rule)) for group in groups)
    assert all(
        [cells[name] for name in rule.strategies] == [most] * 3 for cells in cells_of(groups, rule)
    )


@pytest.mark.parametrize(
    "change", [{"policy": "random"}, {"strategies": ("a",)}], ids=["random", "one strategy"]
)
def test_nothing_is_scored_where_nothing_has_to_be_chosen(change: dict[str, object]) -> None:
    rule = dataclasses.replace(RULE, **change)  # type: ignore[arg-type]
    assert all(not cells.total() for cells in cells_of(groups_of([100, 20]), rule))


def test_judged_groups_are_scored_whole_beside_races() -> None:
    judged = Group(name="open", num_problems=50, num_groups=2, is_judged=True)
    raced = Group(name="raced", num_problems=300, num_groups=2)
    for cells in cells_of([judged, raced], RULE, num=20):
        assert all(51 <= cells[name] <= 250 for name in RULE.strategies)


def test_races_of_different_strategies_end_before_the_grid() -> None:
    rule = dataclasses.replace(RULE, scored_problems=2000)
    drawn = [cells.total() for cells in cells_of(groups_of([2000] * 16), rule, num=10)]
    assert max(drawn) < 16 * 2000 * 3 * 0.9
