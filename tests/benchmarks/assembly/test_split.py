from __future__ import annotations

import io
import json
from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.assembly.feeds import Fed
from benchmarks.assembly.made import Held, Made, mean_grade
from benchmarks.assembly.methods import first_accepted
from benchmarks.assembly.split import (
    CAUSES,
    CONTENDERS,
    GOALS,
    Pair,
    contender_table,
    document,
    factor_table,
    factors,
)
from orca2_gen.records import Example, Message
from tests.benchmarks.assembly.grounds import ground_of, problem, reply_to, right

seconds = st.floats(0.1, 1e4)


def example(number: int, text: str = "") -> Example:
    return Example(
        problem_id=problem("add", number).problem_id,
        task="add",
        strategy="step_by_step",
        messages=(Message(role="assistant", content=text or f"Answer: {2 * number}"),),
        input_ids=(1, 2),
        num_prompt_tokens=1,
    )


def held(seconds: float, start_seconds: float = 20.0) -> Held:
    return Held(
        seconds=seconds,
        start_seconds=start_seconds,
        num_requests=3,
        prompt_tokens=30,
        completion_tokens=9,
    )


def made(num_rows: int, student: float, teacher: float) -> Made:
    return Made(
        rows=tuple(map(example, range(num_rows))),
        chosen={"add": "step_by_step"},
        student=held(student),
        teacher=held(teacher),
    )


every_made = st.builds(made, st.integers(1, 30), seconds, seconds)
every_pair = st.builds(
    Pair,
    ours=every_made,
    usual=every_made,
    careful=every_made,
    replayed=every_made,
    fed=st.builds(Fed, in_batches=seconds, refilled=seconds),
)


@given(st.lists(every_pair, min_size=1, max_size=4))
def test_the_causes_multiply_up_to_the_factor_and_without_the_samples_to_the_careful_one(
    pairs: list[Pair],
) -> None:
    found = factors(pairs)
    assert prod(found[cause] for cause in CAUSES) == pytest.approx(found["factor"])
    others = [found[cause] for cause in CAUSES if cause != "first_accepted"]
    assert prod(others) == pytest.approx(found["factor_careful"])


@given(every_pair)
def test_a_cause_that_changes_nothing_is_one(pair: Pair) -> None:
    same = replace(
        pair,
        usual=pair.careful,
        replayed=pair.careful,
        ours=pair.careful,
        fed=Fed(in_batches=1.0, refilled=1.0),
    )
    assert factors([same]) == pytest.approx(dict.fromkeys(factors([same]), 1.0))


def test_a_race_that_asks_half_is_two_and_nothing_else_is() -> None:
    grid, raced = made(10, 8.0, 0.0), made(10, 4.0, 0.0)
    pair = Pair(
        ours=raced,
        usual=grid,
        careful=grid,
        replayed=raced,
        fed=Fed(in_batches=3.0, refilled=3.0),
    )
    assert factors([pair]) == {
        "factor": 2.0,
        "factor_careful": 2.0,
        "race": 2.0,
        "first_accepted": 1.0,
        "packing": 1.0,
        "overhead": 1.0,
    }


def test_starts_are_told_and_in_no_factor() -> None:
    pair = Pair(
        ours=made(4, 1.0, 1.0),
        usual=made(4, 2.0, 2.0),
        careful=made(4, 1.5, 1.5),
        replayed=made(4, 1.2, 1.2),
        fed=Fed(in_batches=1.1, refilled=1.0),
    )
    slow = replace(pair, ours=replace(pair.ours, student=held(1.0, start_seconds=500.0)))
    assert factors([slow]) == factors([pair])
    [told] = document([slow], [problem("add", n) for n in range(4)], {})["contenders"]["ours"]
    assert told["student"]["start_seconds"] == 500.0


def test_the_document_begins_with_the_figures_that_are_asked_for() -> None:
    pairs = [
        Pair(
            ours=made(4, 1.0 + number, 1.0),
            usual=made(3, 2.0, 2.0),
            careful=made(3, 1.5, 1.5),
            replayed=made(4, 1.2, 1.2),
            fed=Fed(in_batches=1.1, refilled=1.0),
        )
        for number in range(2)
    ]
    problems = [problem("add", number) for number in range(5)]
    found = json.loads(json.dumps(document(pairs, problems, {"dtype": "float32"})))
    assert list(found)[:6] == [
        *("factor", "factor_careful", "race", "first_accepted", "packing", "overhead")
    ]
    assert found["min_max"].keys() == {*GOALS, *CAUSES}
    assert all(low <= high for low, high in found["min_max"].values())
    assert [each["rows"] for each in found["contenders"]["usual"]] == [3, 3]
    out = io.StringIO()
    console = Console(file=out, width=150)
    console.print(contender_table(found))
    console.print(factor_table(found))
    for name in (*CONTENDERS, *GOALS, *CAUSES, "5 problems"):
        assert name in out.getvalue()


def test_the_mean_grade_is_of_what_the_rows_teach() -> None:
    problems = [problem("add", number) for number in range(2)]
    assert mean_grade([example(0), example(1, "Answer: 9")], problems) == 0.5
    assert mean_grade([], problems) == 0.0


def test_rows_that_the_grader_has_accepted_have_the_grade_one() -> None:
    ground = ground_of(3, 3)
    asked = [ground.asked(problem("add", n), "teacher", "step_by_step") for n in range(3)]
    rows = first_accepted(ground, [reply_to(each, right(each)) for each in asked])
    assert len(rows) == 3
    assert mean_grade(rows, [each.problem for each in asked]) == 1.0
