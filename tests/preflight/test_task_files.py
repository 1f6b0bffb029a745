from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.preflight.task_files import check_task_files
from tests.conftest import Write


def test_a_copy_and_a_file_with_an_equal_name_are_other_files(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sums.jsonl").write_bytes((tmp_path / "sums.jsonl").read_bytes())
    check_task_files(load_config(file, [f"tasks.1.path={tmp_path / 'more'}"]))


def test_columns_that_only_some_of_the_first_rows_have_are_there(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    rows = [{"q": "1 + 1?"}, {"q": "1 + 2?", "meta": {"gold": "3"}}]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    right = "tasks.0.columns={question='q', answer='meta.gold', id='nowhere'}"
    check_task_files(load_config(file, [right]))
    wrong = "tasks.0.columns={question='q', answer='meta.glod'}"
    with pytest.raises(ValueError, match=r"tasks.0.columns.answer: no column 'meta.glod'"):
        check_task_files(load_config(file, [wrong]))


def test_rows_that_cannot_be_read_are_no_question_of_columns(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    for body in ("", "{not json\n", "[]\n"):
        (tmp_path / "sums.jsonl").write_text(body)
        check_task_files(load_config(file, ["tasks.0.columns={question='q', answer='a'}"]))


def test_a_held_out_file_may_be_that_of_an_evaluation_and_never_that_of_a_task(
    write_config: Write, tmp_path: Path
) -> None:
    (tmp_path / "held.jsonl").write_text('{"question": "What?", "answer": "this"}\n')
    sections = (
        "[[evaluation.tasks]]\nname = 'e'\nformat = 'jsonl'\npath = 'held.jsonl'\n"
        "[[decontaminate.files]]\nformat = 'jsonl'\npath = '{}'\n"
    )
    check_task_files(load_config(write_config(sections=sections.format("held.jsonl"))))
    config = load_config(write_config(sections=sections.format("sums.jsonl")))
    with pytest.raises(ValueError, match=r"decontaminate\.files\.0\.path: .* is read by tasks\.0"):
        check_task_files(config)
