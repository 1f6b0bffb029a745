from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca2_gen.draft.tasks import tasks_in

GSM8K = {"question": "How many?", "answer": "2 + 2 = 4\n#### 4"}
PLAIN = {"question": "Which?", "answer": "Mevat"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_gets_the_format_that_reads_it_and_a_use_from_its_name(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k_train.jsonl", *[GSM8K] * 3)
    write(tmp_path / "gsm8k_test.jsonl", {"question": "How far?", "answer": "#### 5"})
    write(tmp_path / "rivers.jsonl", PLAIN)
    (tmp_path / "notes.md").write_text("no task")
    found = {(each.name, each.is_held_out): each for each in tasks_in([tmp_path]) if each.format}
    assert {key: each.format for key, each in found.items()} == {
        ("gsm8k", False): "gsm8k",
        ("gsm8k", True): "gsm8k",
        ("rivers", False): "jsonl",
    }


@pytest.mark.parametrize(
    ("name", "task", "is_held_out"),
    [
        ("gsm8k.test.jsonl", "gsm8k", True),
        ("gsm8k-dev.jsonl", "gsm8k", True),
        ("x_val.jsonl", "x", True),
        ("test.jsonl", "task", True),
        ("validation-00000-of-00001.jsonl", "task", True),
        ("train-00001-of-00002.jsonl", "task", False),
        ("v1.5_test.jsonl", "v1.5", True),
        ("river.train.jsonl", "river", False),
        ("latest.jsonl", "latest", False),
        ("contest.jsonl", "contest", False),
        ("medieval.jsonl", "medieval", False),
    ],
)
def test_a_split_is_told_by_the_end_of_a_name(
    tmp_path: Path, name: str, task: str, is_held_out: bool
) -> None:
    [found] = tasks_in([write(tmp_path / name, PLAIN)])
    assert (found.name, found.is_held_out, found.format) == (task, is_held_out, "jsonl")


def test_a_packed_file_is_read_and_what_is_no_task_is_told(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x_test.jsonl.gz", "wt") as file:
        file.write(json.dumps(PLAIN) + "\n")
    (tmp_path / "saved").mkdir()
    (tmp_path / ".hidden").write_text("")
    packed, folder = sorted(tasks_in([tmp_path]), key=lambda each: not each.format)
    assert (packed.name, packed.is_held_out, packed.format) == ("x", True, "jsonl")
    assert folder.path.name == "saved" and folder.reason == "it is a directory"


def test_a_file_that_no_format_reads_says_why(tmp_path: Path) -> None:
    [empty] = tasks_in([write(tmp_path / "empty.jsonl")])
    assert empty.format == "" and empty.reason
    [odd] = tasks_in([write(tmp_path / "odd.jsonl", {"text": "no question"})])
    assert odd.format == "" and odd.reason
    [other] = tasks_in([write(tmp_path / "image.png", 1)])
    assert other.format == "" and "no format takes files with this name" in other.reason


def test_rows_that_are_no_problems_are_counted_and_explained(tmp_path: Path) -> None:
    [task] = tasks_in([write(tmp_path / "some.jsonl", PLAIN, {"question": "x"}, PLAIN)])
    assert (task.num_problems, task.num_rows) == (1, 3) or (task.num_problems, task.num_rows) == (
        2,
        3,
    )
    assert task.reason


def test_only_the_first_rows_of_a_long_file_are_read(tmp_path: Path) -> None:
    rows = [{"question": f"Which is {n}?", "answer": str(n)} for n in range(1000)]
    [task] = tasks_in([write(tmp_path / "long.jsonl", *rows)])
    assert task.num_rows == 200


def test_files_of_one_name_get_different_names(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / ("x_2.jsonl" if folder == "b" else "x.jsonl"), PLAIN)
    found = tasks_in([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [each.name for each in found] == ["x", "x_2", "x_3"]


def test_a_name_that_no_task_may_have_is_changed(tmp_path: Path) -> None:
    [task] = tasks_in([write(tmp_path / "my task (new).jsonl", PLAIN)])
    assert task.name == "my_task__new_"


@pytest.mark.parametrize("num_bad", range(0, 5))
def test_a_few_bad_rows_make_no_other_format_of_a_plain_file(tmp_path: Path, num_bad: int) -> None:
    rows: list[Any] = [{**PLAIN, "question": f"Which is {n}?"} for n in range(30)]
    rows += [
        {"question": f"Pick {n}", "choices": ["red", "blue"], "answer": "A"} for n in range(10)
    ]
    rows += [{"question": f"Bad {n}", "choices": ["red", "blue"], "answer": "E"} for n in range(5)]
    kept = rows[: 40 + num_bad]
    [found] = tasks_in([write(tmp_path / "mine.jsonl", *kept)])
    assert (found.format, found.num_problems, found.num_rows) == ("jsonl", 40, len(kept))


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "1 + 1?", "gold": "2"}, {"question": "prompt", "answer": "gold"}),
        ({"Query": "1 + 1?", "Label": "2"}, {"question": "Query", "answer": "Label"}),
        (
            {"problem": "Which?", "options": ["x", "y"], "label": 1},
            {"question": "problem", "answer_index": "label", "choices": "options"},
        ),
        (
            {"problem": "Which?", "options": ["x", "y"], "answer": "B"},
            {"question": "problem", "answer": "answer", "choices": "options"},
        ),
        (
            {
                "conversation": [
                    {"role": "user", "content": "1 + 1?"},
                    {"role": "assistant", "content": "2"},
                ]
            },
            {"messages": "conversation"},
        ),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_with_names_of_others_are_mapped_as_the_rows_can_be_read(
    tmp_path: Path, row: dict[str, Any], columns: dict[str, str], kind: str
) -> None:
    path = tmp_path / f"mine.{kind}"
    rows = [row, {**row, next(iter(row)): row[next(iter(row))]}]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, *rows)
    [found] = tasks_in([path])
    assert (found.format, found.num_problems, dict(found.columns)) == (kind, 2, columns)


def test_columns_are_guessed_only_where_nothing_is_read_without(tmp_path: Path) -> None:
    [plain] = tasks_in([write(tmp_path / "plain.jsonl", PLAIN | {"prompt": "x", "gold": "y"})])
    assert plain.num_problems == 1 and not plain.columns
    [odd] = tasks_in([write(tmp_path / "odd.jsonl", {"a": "x", "b": "y"})])
    assert odd.format == "" and "no_question" in odd.reason
