from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.plan import CHANGEABLE
from train.plan_changes import change_of_plan

STAGES = [{"learning_rate": 1e-4, "num_steps": 5}, {"learning_rate": 1e-5, "num_steps": 7}]


def determinants(**plan: Any) -> dict[str, Any]:
    return {"plan": {"seed": 1, "learning_rate": 1e-4, **plan}, "dataset": "d", "model": "m"}


def change(before: Any, now: Any, step: int = 6, **steps: Any) -> str:
    found = steps.get("stage_steps", ((5, 7), (5, 7)))
    return change_of_plan(before, now, step=step, stage_steps=found)


@pytest.mark.parametrize("key", sorted(CHANGEABLE))
def test_what_may_change_is_told_and_nothing_else_is(key: str) -> None:
    assert change(determinants(), determinants()) == ""
    assert f"plan.{key}: " in change(determinants(**{key: 3}), determinants(**{key: 4}))


@pytest.mark.parametrize("key", ["seed", "rows_per_step", "optimizer", "dtype", "seq_len"])
def test_what_would_change_the_rows_or_the_optimizer_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"plan\.{key}: 3 -> 4"):
        change(determinants(**{key: 3}), determinants(**{key: 4}))


def test_another_dataset_or_model_is_refused() -> None:
    for key in ("dataset", "model"):
        with pytest.raises(ValueError, match=key):
            change(determinants(), determinants() | {key: "other"})


@given(step=st.integers(0, 20), skipped=st.integers(1, 20))
def test_a_step_may_be_skipped_exactly_if_it_is_not_done(step: int, skipped: int) -> None:
    now = determinants(skip_steps=[skipped])
    if skipped > step:
        assert change(determinants(), now, step) == ""
    else:
        with pytest.raises(ValueError, match="skip_steps"):
            change(determinants(), now, step)


def test_a_stage_that_is_done_keeps_its_length_and_a_later_one_need_not() -> None:
    before, now = determinants(stages=STAGES), determinants(stages=STAGES)
    assert change(before, now, step=6, stage_steps=((5, 7), (5, 9))) == ""
    with pytest.raises(ValueError, match="stage 1 is done, and its steps: 5 -> 4"):
        change(before, now, step=6, stage_steps=((5, 7), (4, 7)))
    assert change(before, now, step=4, stage_steps=((5, 7), (6, 7))) == ""


def test_a_stage_that_has_begun_keeps_the_steps_that_are_done() -> None:
    before, now = determinants(stages=STAGES), determinants(stages=STAGES)
    with pytest.raises(ValueError, match="stage 2 stands at its step 3, and its steps: -> 2"):
        change(before, now, step=8, stage_steps=((5, 7), (5, 2)))
    with pytest.raises(ValueError, match="stage 1 stands at its step 4, and its steps: -> 3"):
        change(before, now, step=4, stage_steps=((5, 7), (3, 7)))
    assert change(before, now, step=8, stage_steps=((5, 7), (5, 3))) == ""


def test_the_learning_rate_of_a_stage_may_change() -> None:
    changed = [STAGES[0], {"learning_rate": 1e-6, "num_steps": 7}]
    found = change(determinants(stages=STAGES), determinants(stages=changed))
    assert "plan.stages" in found
