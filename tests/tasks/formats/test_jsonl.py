"""Plain rows: the answers they may have, with choices and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection
from orca2_gen.tasks.formats.jsonl import read_jsonl_row
from orca2_gen.tasks.rows import parse_json
from orca2_gen.tasks.statements import BadRowError
from tests.tasks.reading import line, only, problems, read_lines, reasons


def test_a_numeric_gold_that_is_no_number_is_rejected(tmp_path: Path) -> None:
    rows = "".join(
        line(answer=answer) for answer in ("many", "1e9999", "5 or 6", "7", 7, "7.50", "1/3", "60%")
    )
    found = read_lines(tmp_path, rows, answer_type="numeric")
    assert reasons(found) == ["bad_answer"] * 3 + ["problem"] * 5


def test_an_answer_is_a_letter_or_an_option_and_becomes_the_letter(tmp_path: Path) -> None:
    answers = ("B", "b", "the moon", "The Moon.", " the moon ")
    found = read_lines(
        tmp_path, "".join(line(choices=["wind", "the moon"], answer=x) for x in answers)
    )
    assert [x.target for x in found if isinstance(x, Problem)] == ["B"] * 5
    assert {x.answer_type for x in found if isinstance(x, Problem)} == {"multiple_choice"}


def test_a_number_as_answer_is_its_own_json_text(tmp_path: Path) -> None:
    rows = [
        f'{{"question": "What?", "answer": {x}}}\n'
        for x in ("7", "-0.10", "1e3", "12345678901234567890.10")
    ]
    found = read_lines(tmp_path, "".join(rows))
    assert [x.target for x in found if isinstance(x, Problem)] == [
        "7",
        "-0.10",
        "1e3",
        "12345678901234567890.10",
    ]
    assert all(type(x.target) is str for x in found if isinstance(x, Problem))


def test_choices_with_another_answer_type_are_never_dropped(tmp_path: Path) -> None:
    assert reasons(read_lines(tmp_path, line(choices=["x", "y"]), answer_type="exact")) == [
        "bad_choices"
    ]
    assert reasons(read_lines(tmp_path, line(), answer_type="multiple_choice")) == ["bad_choices"]


def test_choices_that_repeat_each_other_stay_unless_the_gold_one_is_repeated(
    tmp_path: Path,
) -> None:
    rows = "".join(line(choices=["9", "8", "9"], answer=x) for x in ("B", "8", "A", "C", "9"))
    found = read_lines(tmp_path, rows)
    assert reasons(found) == ["problem"] * 2 + ["duplicate_gold"] * 3
    assert {x.choices for x in problems(found)} == {("9", "8", "9")}


@pytest.mark.parametrize(
    ("answer", "target"), [(True, "yes"), (False, "no"), ("True", "True"), ("no", "no")]
)
def test_a_yes_no_answer_may_be_a_json_boolean(tmp_path: Path, answer: object, target: str) -> None:
    (problem,) = problems(read_lines(tmp_path, line(answer=answer), answer_type="yes_no"))
    assert (problem.target, problem.answer_type) == (target, "yes_no")


def test_a_yes_no_answer_that_says_neither_is_rejected(tmp_path: Path) -> None:
    assert reasons(read_lines(tmp_path, line(answer="maybe"), answer_type="yes_no")) == [
        "bad_answer"
    ]


def test_a_number_as_gold_is_numeric_and_a_whole_float_is_whole(tmp_path: Path) -> None:
    golds = [("43.0", "43"), ("-0.0", "-0"), ("1.50", "1.50"), ("1e3", "1e3"), ("[7.0]", "7")]
    rows = [f'{{"question": "What?", "answer": {given}}}\n' for given, _ in golds]
    found = problems(read_lines(tmp_path, "".join(rows)))
    assert [(x.answer_type, x.target) for x in found] == [("numeric", gold) for _, gold in golds]
    assert only(read_lines(tmp_path, line(answer="43"))).answer_type == "exact"
    assert only(read_lines(tmp_path, line(answer=43.0), answer_type="exact")).target == "43"


PLACES = ["0", "1", "2", "2.0", "4", '"0"', '"1"', '"4"']
"""Answers that may count four choices, from 0 or from 1."""


@given(
    texts=st.lists(st.sampled_from(["0", "1", "2", "3", "4", "5", "10", "red"]), min_size=4)
    .map(lambda texts: texts[:4])
    .filter(lambda texts: len(set(texts)) == 4),
    answer=st.sampled_from([*PLACES, "5", "10", '"2"', '"red"']),
)
def test_an_accepted_answer_is_the_text_or_else_a_number_that_counts_nothing(
    texts: list[str], answer: str
) -> None:
    body = f'{{"question": "?", "choices": {json.dumps(texts)}, "answer": {answer}}}'
    row = parse_json(body.encode(), "")
    is_text = answer.strip('"') in texts
    if is_text and (answer.startswith('"') or answer in ("5", "10")):
        target = read_jsonl_row(row, None).target
        assert texts["ABCD".index(target)] == answer.strip('"')
    else:
        with pytest.raises(BadRowError, match="bad_answer"):
            read_jsonl_row(row, None)


def test_a_number_that_may_count_the_choices_names_the_key_to_set(tmp_path: Path) -> None:
    (found,) = read_lines(tmp_path, line(choices=["10", "2", "3", "0"], answer=2))
    assert isinstance(found, Rejection) and "answer_index" in found.detail
    row = line(choices=["10", "2", "3", "0"], answer=None, answer_index=2)
    assert only(read_lines(tmp_path, row)).target == "C"
    mapped = {"question": "question", "choices": "choices", "answer_index": "answer"}
    for label in (2, 2.0, "2", [2]):
        row = line(choices=["10", "2", "3", "0"], answer=label)
        assert only(read_lines(tmp_path, row, columns=mapped)).target == "C"
    both = line(choices=["x", "y"], answer="x", answer_index=1) + line(answer_index=1, answer=None)
    assert reasons(read_lines(tmp_path, both)) == ["bad_answer", "bad_choices"]


LABELLED = [
    {"text": ["2", "4", "1"], "label": ["1", "2", "3"]},
    {"text": ["2", "4", "1"], "label": [1, 2, 3]},
    [{"text": "2", "label": "1"}, {"text": "4", "label": "2"}, {"text": "1", "label": "3"}],
    {"1": "2", "2": "4", "3": "1", "4": None},
]


@pytest.mark.parametrize("choices", LABELLED)
def test_an_answer_names_a_label_where_the_choices_have_labels(
    tmp_path: Path, choices: object
) -> None:
    for answer in ("2", 2):
        problem = only(read_lines(tmp_path, line(choices=choices, answer=answer)))
        assert (problem.choices, problem.target) == (("2", "4", "1"), "B")
    wrong = line(choices=choices, answer="D") + line(choices=choices, answer=0)
    assert reasons(read_lines(tmp_path, wrong)) == ["bad_answer"] * 2


def test_labels_in_another_order_lead_to_their_texts(tmp_path: Path) -> None:
    choices = {"text": ["x", "y", "z"], "label": ["C", "A", "B"]}
    found = [only(read_lines(tmp_path, line(choices=choices, answer=x))).target for x in "ABC"]
    assert found == ["B", "C", "A"]
    twice = {"text": ["x", "y"], "label": ["A", "A"]}
    few = {"text": ["x", "y"], "label": ["A"]}
    rows = line(choices=twice, answer="A") + line(choices=few, answer="A")
    assert reasons(read_lines(tmp_path, rows)) == ["bad_choices"] * 2


def test_choices_that_carry_letters_in_any_order_are_refused(tmp_path: Path) -> None:
    for choices in (["(A) x", "(C) y", "(B) z"], ["A\uff0ex", "B\uff0ey"], ["a) x", "b) y"]):
        assert reasons(read_lines(tmp_path, line(choices=choices, answer="B"))) == ["bad_choices"]


def test_options_under_another_name_are_never_lost(tmp_path: Path) -> None:
    row = {"question": "Which?", "options": ["x", "y"], "answer": "A"}
    (found,) = read_lines(tmp_path, json.dumps(row))
    assert isinstance(found, Rejection) and found.reason == "no_choices"
    assert "choices = 'options'" in found.detail


def test_a_list_of_one_answer_is_that_answer(tmp_path: Path) -> None:
    rows = "".join(line(answer=x) for x in (["Paris"], ["Paris", "Paris"], ["a", "b"]))
    found = read_lines(tmp_path, rows)
    assert reasons(found) == ["problem", "problem", "several_answers"]
    assert [x.target for x in problems(found)] == ["Paris"] * 2
    (listed,) = problems(read_lines(tmp_path, line(answer=["a", "b"]), answer_type="list"))
    assert listed.target == "a, b"
    assert reasons(read_lines(tmp_path, line(answer=["a,b", "c"]), answer_type="list")) == [
        "bad_answer"
    ]


def test_gaps_as_pandas_writes_them_are_nulls(tmp_path: Path) -> None:
    nan = float("nan")
    found = read_lines(tmp_path, line(choices=nan, category=nan, messages=nan, more=nan))
    assert (only(found).target, only(found).category) == ("this", "")
    rows = line(answer=nan) + line(question=nan) + line(more=float("-inf"))
    assert reasons(read_lines(tmp_path, rows)) == ["bad_number"] * 3
