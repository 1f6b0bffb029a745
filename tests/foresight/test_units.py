from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.foresight.amounts import KnownUnits, UnitRows
from orca2_gen.foresight.units import FEWEST_ROWS, UnitsLeft

UNIT = st.builds(
    UnitRows,
    num=st.integers(FEWEST_ROWS, 300),
    strategy=st.sampled_from(["a", "b", "c"]),
    length=st.floats(1.0, 500.0),
)
PER_LENGTH = {"a": 1.5, "b": 0.7, "c": 3.0}


def true_tokens(units: list[UnitRows]) -> float:
    return sum(unit.num * unit.length * PER_LENGTH[unit.strategy] for unit in units)


@given(st.lists(UNIT, min_size=3, max_size=12), st.data())
def test_the_work_left_is_that_of_all_units_that_are_not_committed(
    units: list[UnitRows], data: st.DataObject
) -> None:
    """Engines are in the midst of a unit, and every strategy has been seen."""
    num_done = data.draw(st.integers(0, len(units) - 1))
    left = UnitsLeft(KnownUnits(units={str(place): unit for place, unit in enumerate(units)}))
    for place in range(num_done):
        left.add(str(place))
    open_unit = units[num_done]
    num_open = data.draw(st.integers(FEWEST_ROWS, open_unit.num))
    answered: dict[str, int] = {}
    spent: dict[str, float] = {}
    seen = [
        *units[:num_done],
        UnitRows(num=num_open, strategy=open_unit.strategy, length=open_unit.length),
    ]
    for unit in seen:
        answered[unit.strategy] = answered.get(unit.strategy, 0) + unit.num
        spent[unit.strategy] = spent.get(unit.strategy, 0.0) + true_tokens([unit])
    tokens, done = left.tokens(answered, spent)
    assert done == pytest.approx(true_tokens([seen[-1]]))
    if {unit.strategy for unit in units} == set(answered):
        assert tokens == pytest.approx(true_tokens(units[num_done:]))


def test_rows_under_several_strategies_count_together() -> None:
    units = UnitsLeft(KnownUnits(units={"u": UnitRows(num=60), "v": UnitRows(num=40)}))
    units.add("u")
    tokens, done = units.tokens({"a": 35, "b": 35}, {"a": 350.0, "b": 3500.0})
    assert tokens == pytest.approx(40 * 55.0) and done == pytest.approx(10 * 55.0)
