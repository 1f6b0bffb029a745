"""GSM8K: the number after the last mark is the gold answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.tasks.reading import line, only, problems, published, read, read_lines, reasons

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


def test_a_gsm8k_target_is_the_number_without_commas(tmp_path: Path) -> None:
    row = line(answer="3*400=<<3*400=1200>>1200 #### no\nSo\n#### 1,200")
    problem = only(read_lines(tmp_path, row, format="gsm8k"))
    assert (problem.target, problem.answer_type, problem.problem_id) == (
        "1200",
        "numeric",
        "t/test/0",
    )


@pytest.mark.parametrize(("split", "num_rows"), [("train", 7_473), ("test", 1_319)])
def test_the_published_gsm8k_files_are_read_whole(split: str, num_rows: int) -> None:
    found = read(published(f"gsm8k_{split}.jsonl"), format="gsm8k")
    assert Counter(reasons(found)) == {"problem": num_rows}
    assert all("," not in x.target for x in problems(found))
