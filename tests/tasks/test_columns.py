"""The mapping of columns: one, several, nested ones, and an answer given by its index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orca2_gen.tasks.columns import check_columns, map_columns
from orca2_gen.tasks.statements import NumberText
from tests.tasks.reading import only, read_rows, reasons

ROW = {
    "context": "Tides rise.",
    "ask": "What pulls them?",
    "endings": ["wind", "moon"],
    "options": {"text": ["wind", "moon"], "label": ["A", "B"]},
    "a": "wind",
    "b": "moon",
    "label": 1,
    "uid": "q-1",
    "kind": "physics",
}


@pytest.mark.parametrize("choices", ["endings", "options.text", ["a", "b"]])
def test_choices_may_be_a_column_a_part_of_one_or_several(tmp_path: Path, choices: Any) -> None:
    columns = {
        "question": ["context", "ask"],
        "choices": choices,
        "answer_index": "label",
        "id": "uid",
        "category": "kind",
    }
    problem = only(read_rows(tmp_path, ROW, format="jsonl", columns=columns))
    assert problem.question == "Tides rise.\n\nWhat pulls them?"
    assert (problem.choices, problem.target) == (("wind", "moon"), "B")
    assert (problem.problem_id, problem.category) == ("t/test/q-1", "physics")


def test_fields_that_are_not_mapped_are_not_read() -> None:
    row = {"question": "old", "answer": "x", "prompt": "new", "id": "7"}
    assert map_columns(row, {"question": "prompt", "answer": "answer"}) == {
        "question": "new",
        "answer": "x",
    }


@pytest.mark.parametrize("label", [2, -1, 0.5, "B", None, True, "999"])
def test_an_index_that_names_no_choice_is_rejected(tmp_path: Path, label: object) -> None:
    columns = {"question": "ask", "choices": "endings", "answer_index": "label"}
    found = read_rows(tmp_path, ROW | {"label": label}, format="jsonl", columns=columns)
    assert reasons(found) == ["bad_answer"]


def test_a_column_that_a_row_lacks_is_a_missing_field(tmp_path: Path) -> None:
    columns = {"question": "prompt", "answer": "a"}
    assert reasons(read_rows(tmp_path, ROW, format="jsonl", columns=columns)) == ["no_question"]
    assert map_columns({"n": NumberText("1")}, {"answer": "n.x"}) == {"answer": None}


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"prompt": "x"}, "unknown field 'prompt'"),
        ({"answer": ["x", "y"]}, "several columns"),
        ({"answer": "x", "answer_index": "y"}, "leave one out"),
    ],
)
def test_a_bad_mapping_is_one_clear_error(columns: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_columns(columns)
