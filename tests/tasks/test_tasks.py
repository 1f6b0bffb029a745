"""Readers: every line is a Problem or a Rejection with a reason, whatever is in the file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.records import AnswerType, Problem, Rejection
from orca2_gen.tasks import read_task

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def read(
    path: Path, *, format: str = "jsonl", answer_type: AnswerType | None = None
) -> list[Problem | Rejection]:
    return list(read_task(path, name="t", format=format, split="test", answer_type=answer_type))


def read_lines(
    folder: Path,
    content: bytes | str,
    *,
    format: str = "jsonl",
    answer_type: AnswerType | None = None,
) -> list[Problem | Rejection]:
    path = folder / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, format=format, answer_type=answer_type)


def line(**row: Any) -> str:
    return json.dumps({"question": "What?", "answer": "this"} | row) + "\n"


def reasons(found: list[Problem | Rejection]) -> list[str]:
    return [x.reason if isinstance(x, Rejection) else "problem" for x in found]


GOOD = line()


GSM8K_BAD = [
    "no mark at all",
    "#### ",
    "#### many",
    "18 ####",
    "#### 1,2",
    "#### 5 or 6",
    "x #### 1/0",
]


@pytest.mark.parametrize("answer", GSM8K_BAD)
def test_a_gsm8k_answer_that_does_not_end_with_a_number_is_rejected(
    tmp_path: Path, answer: str
) -> None:
    assert reasons(read_lines(tmp_path, line(answer=answer), format="gsm8k")) == ["bad_answer"]


def test_a_numeric_gold_that_is_no_number_is_rejected(tmp_path: Path) -> None:
    rows = "".join(
        line(answer=answer) for answer in ("many", "1e9999", "5 or 6", "7", 7, "7.50", "1/3", "60%")
    )
    found = read_lines(tmp_path, rows, answer_type="numeric")
    assert reasons(found) == ["bad_answer"] * 3 + ["problem"] * 5


def test_a_gsm8k_target_is_the_number_without_commas(tmp_path: Path) -> None:
    row = line(answer="3*400=<<3*400=1200>>1200 #### no\nSo\n#### 1,200")
    (problem,) = read_lines(tmp_path, row, format="gsm8k")
    assert isinstance(problem, Problem)
    assert (problem.target, problem.answer_type, problem.problem_id) == (
        "1200",
        "numeric",
        "t/test/0",
    )


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


def test_ids_stay_different_and_are_never_paths(tmp_path: Path) -> None:
    ids = [
        "a/b",
        "a%2Fb",
        "..",
        "%2E%2E",
        "../../etc",
        "A/b",
        "a b",
        "a+b",
        ".",
        "tides-7",
        8,
        -8,
        "\u00e9",
        "a" * 200,
    ]
    found = read_lines(tmp_path, "".join(line(id=x) for x in ids))
    own = [x.problem_id.removeprefix("t/test/") for x in found if isinstance(x, Problem)]
    assert len(set(own)) == len(ids)
    assert own[0] == "a%2Fb" and own[2] == "%2E%2E" and own[9] == "tides-7" and own[10] == "8"
    assert all(x.isascii() and "/" not in x and x.strip(".") for x in own)


@pytest.mark.parametrize(
    ("one", "other"), [("x", "x"), ("\u00e9", "e\u0301"), ("7", 7), ("1", None)]
)
def test_a_duplicate_id_is_rejected_naming_the_first_line(
    tmp_path: Path, one: Any, other: Any
) -> None:
    second = line() if other is None else line(id=other)
    found = read_lines(tmp_path, line(id=one) + second)
    assert reasons(found) == ["problem", "duplicate_id"]
    assert isinstance(found[1], Rejection) and "line 1 " in found[1].detail


def test_what_concerns_the_whole_file_is_one_clear_error_at_once(tmp_path: Path) -> None:
    def refuse(path: Path, match: str, **other: Any) -> None:
        arguments: dict[str, Any] = {
            "name": "t",
            "format": "jsonl",
            "split": "test",
            "answer_type": None,
        }
        with pytest.raises(ValueError, match=match) as caught:
            list(read_task(path, **(arguments | other)))
        assert "\n" not in str(caught.value)

    good = tmp_path / "rows.jsonl"
    good.write_text(GOOD)
    refuse(tmp_path / "absent.jsonl", "nothing there")
    refuse(tmp_path, "a directory")
    refuse(good, "unknown format 'parquet'", format="parquet")
    for name in ("", "../x", "a/b", ".hidden", "a\nb", "x" * 101):
        refuse(good, "task name", name=name)
        refuse(good, "task split", split=name)
    refuse(good, "multiple_choice", format="gsm8k", answer_type="multiple_choice")
    plain = tmp_path / "rows.jsonl.gz"
    plain.write_text(GOOD)
    refuse(plain, "not gzip")


@pytest.mark.parametrize(("split", "num_rows"), [("train", 7_473), ("test", 1_319)])
def test_the_published_gsm8k_files_are_read_whole(split: str, num_rows: int) -> None:
    path = DATA / f"gsm8k_{split}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is absent: the public data are not part of the repository")
    found = read(path, format="gsm8k")
    assert Counter(reasons(found)) == {"problem": num_rows}
    assert all("," not in x.target for x in found if isinstance(x, Problem))
