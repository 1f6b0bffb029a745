from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.foresight.pace import Pace, seconds_of

BLOCKS = st.lists(
    st.lists(st.tuples(st.floats(1, 500), st.floats(1, 1e5)), min_size=1, max_size=6),
    min_size=1,
    max_size=6,
)


@given(BLOCKS, st.floats(10, 1e4), st.floats(0, 100), st.floats(0, 2000) | st.just(math.inf))
def test_races_take_at_least_the_speed_and_the_longest_chain(
    races: list[list[tuple[float, float]]], speed: float, longest: float, sequences: float
) -> None:
    pace = Pace(tokens_per_second=speed, sequences=sequences, longest_seconds=longest)
    seconds = seconds_of(races, pace, 0.0)
    tokens = sum(num for blocks in races for _, num in blocks)
    assert seconds >= tokens / speed * (1 - 1e-9)
    # No race waits for others once there is room for all, so the last chain is never longer.
    most = tokens / speed + longest * max(map(len, races)) * len(races)
    assert seconds <= most * (1 + 1e-9)
    if sequences == math.inf:
        assert seconds >= longest * max(map(len, races)) * (1 - 1e-9)
    assert seconds_of(races, pace, 1e9) <= seconds
    no_wait = Pace(tokens_per_second=speed, sequences=sequences, longest_seconds=0.0)
    assert seconds_of(races, no_wait, 0.0) == pytest.approx(tokens / speed)
