"""The mapping of columns: one, several, nested ones, and an answer given by its index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orca2_gen.records import Rejection
from orca2_gen.tasks.columns import check_columns, look_up, map_columns
from orca2_gen.tasks.statements import NumberText
from tests.tasks.reading import only, problems, read_rows, reasons

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


MISSING = [
    ({"question": "prompt", "answer": "a"}, "no_question"),
    ({"question": ["context", "asked"], "answer": "a"}, "no_question"),
    ({"question": "ask", "answer": "c"}, "no_answer"),
    ({"question": "ask", "answer": "endings.2"}, "no_answer"),
    ({"question": "ask", "answer": "a.x"}, "no_answer"),
    ({"question": "ask", "answer_index": "lable", "choices": "endings"}, "no_answer"),
    ({"question": "ask", "answer": "a", "choices": "option"}, "no_choices"),
    ({"question": "ask", "answer": "a", "choices": "options.texts"}, "no_choices"),
    ({"question": "ask", "answer": "a", "choices": ["a", "b", "c"]}, "no_choices"),
    ({"messages": "talk"}, "no_question"),
]


@pytest.mark.parametrize(("columns", "reason"), MISSING)
def test_a_row_that_lacks_a_needed_column_is_rejected_with_the_columns_it_has(
    tmp_path: Path, columns: dict[str, Any], reason: str
) -> None:
    (found,) = read_rows(tmp_path, ROW, format="jsonl", columns=columns)
    assert isinstance(found, Rejection) and found.reason == reason
    assert "columns." in found.detail and "the row has 'context', 'ask'" in found.detail


def test_a_null_is_no_missing_column_and_an_id_or_category_may_be_missing(tmp_path: Path) -> None:
    columns = {"question": "ask", "answer": "a", "choices": "options.text", "id": "no"}
    rows = [ROW | {"options": None}, ROW | {"options": {"text": None}}, ROW]
    found = read_rows(tmp_path, *rows, format="jsonl", columns=columns | {"category": "no"})
    assert [x.choices for x in problems(found)] == [(), (), ("wind", "moon")]


def test_a_path_leads_into_objects_and_lists() -> None:
    row = {"a": {"b": [{"c": "x"}, {"c": NumberText("7")}]}, "d.e": "y", "n": NumberText("1")}
    found = {
        "a.b.0.c": "x",
        "a.b.1.c": "7",
        "a.b.c": ["x", "7"],
        "d.e": "y",
        "n.x": None,
        "a.b.2": None,
        "a.b.-1": None,
        "a.b.\u0663": None,
    }
    assert {way: look_up(row, way) for way in found} == found


def test_a_choices_column_beside_labels_brings_them(tmp_path: Path) -> None:
    arc = {"ask": "?", "options": {"text": ["2", "1"], "label": ["1", "2"]}, "key": "1"}
    columns = {"question": "ask", "answer": "key", "choices": "options.text"}
    assert only(read_rows(tmp_path, arc, format="jsonl", columns=columns)).target == "A"
    listed = [{"text": "2", "label": "1"}, {"text": "1", "label": "2"}]
    row = {"ask": {"stem": "?", "options": listed}, "key": "2"}
    columns = {"question": "ask.stem", "answer": "key", "choices": "ask.options.text"}
    assert only(read_rows(tmp_path, row, format="jsonl", columns=columns)).target == "B"


def test_columns_that_a_row_does_not_fill_at_the_end_are_no_choices(tmp_path: Path) -> None:
    columns = {"question": "q", "answer": "x", "choices": ["A", "B", "C", "D"]}
    row = {"q": "?", "x": "B", "A": "red", "B": "blue", "C": None, "D": float("nan")}
    assert only(read_rows(tmp_path, row, format="jsonl", columns=columns)).choices == (
        *("red", "blue"),
    )
    gap = row | {"B": None, "C": "green"}
    assert reasons(read_rows(tmp_path, gap, format="jsonl", columns=columns)) == ["bad_choices"]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"prompt": "x"}, "unknown field 'prompt'"),
        ({"answer": ["x", "y"]}, "several columns"),
        ({"answer": "x", "answer_index": "y"}, "leave one out"),
        ({"question": "x", "messages": "y"}, "leave one out"),
    ],
)
def test_a_bad_mapping_is_one_clear_error(columns: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_columns(columns)
