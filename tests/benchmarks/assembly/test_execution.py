from __future__ import annotations

import pytest

from benchmarks.assembly.execution import (
    _WARM_UP_ROW,
    WARM_UP,
    Postprocess,
    Preprocess,
    _row,
    finish_reason,
)
from tests.benchmarks.assembly.grounds import ground_of, problem, right


def test_every_row_of_an_execution_has_the_columns_of_its_warm_up() -> None:
    asked = ground_of(1, 1).asked(problem("add", 1), "teacher", "step_by_step")
    for is_seeded in (True, False):
        row = _row(0, asked, is_seeded=is_seeded)
        assert list(row) == list(_WARM_UP_ROW)
        assert [type(value) for value in row.values()] == [
            type(value) for value in _WARM_UP_ROW.values()
        ]


@pytest.mark.parametrize("is_seeded", [True, False])
def test_a_warm_up_passes_the_closed_gate_and_only_seeded_prompts_have_a_seed(
    is_seeded: bool,
) -> None:
    told = Preprocess(None, is_seeded)(dict(_WARM_UP_ROW))
    assert [each["role"] for each in told["messages"]] == ["system", "user"]
    assert ("seed" in told["sampling_params"]) == is_seeded
    assert told["sampling_params"]["max_tokens"] == 1


@pytest.mark.parametrize(
    ("num_tokens", "outcome", "score"), [(5, "correct", 1.0), (128, "truncated", 0.0)]
)
def test_a_completion_is_graded_on_its_problem_unless_it_took_all_tokens(
    num_tokens: int, outcome: str, score: float
) -> None:
    asked = ground_of(1, 1).asked(problem("add", 4), "teacher", "step_by_step")
    row = {
        "place": 1,
        "generated_text": right(asked),
        "num_input_tokens": 20,
        "num_generated_tokens": num_tokens,
        "max_tokens": 128,
    }
    told = Postprocess([problem("add", 3), asked.problem])(row)
    assert (told["outcome"], told["score"]) == (outcome, score)
    assert (told["place"], told["prompt_tokens"]) == (1, 20)


def test_a_row_of_the_warm_up_is_graded_on_nothing() -> None:
    row = {
        "place": WARM_UP,
        "generated_text": "2",
        "num_input_tokens": 9,
        "num_generated_tokens": 1,
        "max_tokens": 1,
    }
    assert Postprocess([])(row)["outcome"] == ""


def test_a_completion_with_tokens_left_has_stopped() -> None:
    assert [finish_reason(tokens, 8) for tokens in (0, 7, 8)] == ["stop", "stop", "length"]
