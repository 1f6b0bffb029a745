"""Plain rows: the answers they may have, with choices and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.records import Problem
from tests.tasks.reading import line, problems, read_lines, reasons


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
