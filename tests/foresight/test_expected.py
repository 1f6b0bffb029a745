from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.foresight.expected import Expected, exactly, product, within

values = st.floats(1e-3, 1e6)
factors = st.floats(1.0, 50.0)


@given(st.lists(st.tuples(values, factors, factors), min_size=1, max_size=5))
def test_a_product_is_wider_than_each_factor_and_narrower_than_all_at_their_worst(
    given_: list[tuple[float, float, float]],
) -> None:
    numbers = [within(value, up, down) for value, up, down in given_]
    found = product(*numbers)
    assert found.low <= found.value <= found.high
    up, down = found.high / found.value, found.value / found.low
    worst_up = worst_down = 1.0
    for number in numbers:
        assert up >= number.high / number.value * (1 - 1e-9)
        assert down >= number.value / number.low * (1 - 1e-9)
        worst_up *= number.high / number.value
        worst_down *= number.value / number.low
    assert up <= worst_up * (1 + 1e-9) and down <= worst_down * (1 + 1e-9)


@given(values, values, factors)
def test_a_known_factor_scales_a_product(value: float, known: float, factor: float) -> None:
    found = product(exactly(known), within(value, factor))
    expected = within(value, factor).times(known)
    assert [found.value, found.low, found.high] == pytest.approx(
        [expected.value, expected.low, expected.high]
    )


def test_nothing_times_anything_is_nothing() -> None:
    assert product(exactly(0.0), within(3.0, 2.0)) == exactly(0.0)
    assert product(within(3.0, 2.0), Expected(value=1.0, low=0.0, high=1.0)).low == 0.0
