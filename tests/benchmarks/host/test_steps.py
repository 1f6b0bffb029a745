from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.host import steps
from benchmarks.host.steps import (
    MAKING,
    NAMES,
    PREFLIGHT,
    STEPS,
    Outcome,
    Step,
    chosen,
    reason_against,
)

FOLDER = Path(steps.__file__).parent
names = st.sets(st.sampled_from(NAMES))


def seen(*, gpus: int = 0, cores: int = 2, **others: Outcome) -> dict[str, Outcome]:
    """The outcomes of a preflight that found these, and of the making of models."""
    figures: dict[str, Any] = {"gpus": [{}] * gpus, "cores": cores, "on_gpu": gpus > 0}
    return {
        "preflight": Outcome(step="preflight", ended="done", figures=figures),
        "models": Outcome(step="models", ended="done"),
    } | others


def step(name: str) -> Step:
    [found] = [each for each in STEPS if each.name == name]
    return found


@given(names, names)
def test_exactly_the_steps_asked_for_are_taken_after_what_they_need(
    only: set[str], skip: set[str]
) -> None:
    found = chosen(only, skip)
    asked = [name for name in NAMES if (name in only or not only) and name not in skip]
    assert found[0] is PREFLIGHT
    rest = [each for each in found[1:] if each.name != MAKING.name]
    assert [each.name for each in rest] == asked
    needed = {model for each in rest for model in each.models}
    making = [each for each in found if each.name == MAKING.name]
    assert [set(each.models) for each in making] == ([needed] if needed else [])


@pytest.mark.parametrize("each", (PREFLIGHT, MAKING, *STEPS), ids=lambda each: each.name)
def test_every_step_has_its_file_and_more_time_than_the_least(each: Step) -> None:
    tree = ast.parse((FOLDER / f"{each.module}.py").read_text())
    assert "measure" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert 0 < each.least_seconds < each.seconds


@given(st.sampled_from(STEPS), st.floats(min_value=-10, max_value=1000))
def test_a_step_is_begun_exactly_if_its_least_seconds_are_left(
    each: Step, seconds_left: float
) -> None:
    reason = reason_against(each, seen(gpus=8), seconds_left, is_tiny=False)
    assert bool(reason) == (seconds_left < each.least_seconds)
    assert not reason or f"--only {each.name}" in reason


def test_without_a_gpu_only_tiny_steps_are_begun() -> None:
    for each in STEPS:
        assert "no GPU" in reason_against(each, seen(), 999, is_tiny=False)
        assert not reason_against(each, seen(), 999, is_tiny=True)


def test_two_ranks_take_two_devices() -> None:
    reason = reason_against(step("two-ranks"), seen(gpus=1), 999, is_tiny=False)
    assert reason == "it takes 2 GPUs, and there are 1"
    # Tiny or not, engines go to GPUs where there are any.
    assert reason_against(step("two-ranks"), seen(gpus=1), 999, is_tiny=True) == reason
    reason = reason_against(step("two-ranks"), seen(cores=1), 999, is_tiny=True)
    assert reason == "it takes 2 cores, and there are 1"


def test_a_step_whose_models_were_not_made_says_why_they_were_not() -> None:
    unmade = Outcome(step="models", ended="failed", reason="OSError: the disk is full")
    before = seen(gpus=2, models=unmade)
    for each in STEPS:
        assert "the disk is full" in reason_against(each, before, 999, is_tiny=False)
    alone = dataclasses.replace(STEPS[0], models=())
    assert not reason_against(alone, before, 999, is_tiny=False)


def test_nothing_is_begun_after_a_preflight_that_was_cut_off() -> None:
    cut = Outcome(step="preflight", ended="cut off", reason="cut off after 90 s")
    for each in (MAKING, *STEPS):
        reason = reason_against(each, {"preflight": cut}, 999, is_tiny=True)
        assert reason == "preflight: cut off after 90 s"
