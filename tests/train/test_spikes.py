from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from train.spikes import FEWEST_STEPS, LEAST_RISE, Spikes


@given(st.lists(st.floats(1.0, 1.0 + 0.9 * (LEAST_RISE - 1.0)), max_size=80))
def test_losses_that_scatter_a_little_are_no_spikes(losses: list[float]) -> None:
    spikes = Spikes()
    assert not any(spikes.is_one(loss) for loss in losses)


@given(st.lists(st.floats(1.0, 1.3), min_size=FEWEST_STEPS, max_size=80), st.floats(5.0, 99.0))
def test_a_loss_far_above_the_others_is_one_however_often_it_comes(
    losses: list[float], high: float
) -> None:
    spikes = Spikes()
    for loss in losses:
        spikes.is_one(loss)
    assert all(spikes.is_one(high) for _ in range(30))
    assert not spikes.is_one(1.1)


@given(st.lists(st.floats(0.1, 99.0), max_size=FEWEST_STEPS))
def test_the_first_steps_are_no_spikes(losses: list[float]) -> None:
    spikes = Spikes()
    assert not any(spikes.is_one(loss) for loss in losses)
