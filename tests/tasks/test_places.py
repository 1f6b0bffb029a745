"""Every accepted problem knows its file and line: what a person finds there is its row."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection
from orca2_gen.run_directory.record_tables import from_table, to_table
from tests.tasks.reading import (
    CRASS_HEADER,
    DROP_ROW,
    SAMPLES,
    parquet_bytes,
    problems,
    read,
    sample_file,
    stream_bytes,
)

ROW_KINDS = ("good", "blank", "broken", "not_an_object", "no_answer")


def text_of(kind: str, number: int) -> str:
    return {
        "good": json.dumps({"question": f"What is {number}?", "answer": f"no. {number}"}),
        "blank": "  ",
        "broken": "{",
        "not_an_object": "7",
        "no_answer": json.dumps({"question": f"What is {number}?"}),
    }[kind]


@given(kinds=st.lists(st.sampled_from(ROW_KINDS), min_size=1), ending=st.sampled_from(["\n", ""]))
def test_a_line_holds_the_problem_that_names_it_and_rejections_name_the_others(
    kinds: list[str], ending: str
) -> None:
    lines = [text_of(kind, number) for number, kind in enumerate(kinds)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(lines) + ending)
        found = read(path)
    places = []
    for row in found:
        if isinstance(row, Problem):
            assert json.loads(lines[row.source_line - 1])["question"] == row.question
            places.append(f"{row.source_file}:{row.source_line}")
        elif row.reason != "empty_file":
            places.append(row.problem_id)
    wanted = [f"rows.jsonl:{n}" for n, kind in enumerate(kinds, 1) if kind != "blank"]
    assert places == wanted


NUMBERED = [{"question": f"What is {n}?", "answer": f"no. {n}"} for n in range(7)]
TABLE = pa.Table.from_pylist(NUMBERED)


def instances(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Definition": ["Say it."],
        "Categories": ["Saying"],
        "Instances": [
            {"id": f"i{n}", "input": row["question"], "output": [row["answer"]]}
            for n, row in enumerate(rows)
        ],
    }


@pytest.mark.parametrize(
    ("format", "name", "content"),
    [
        ("parquet", "rows.parquet", parquet_bytes(TABLE, row_group_size=2)),
        ("datasets", "data-0.arrow", stream_bytes(TABLE)),
        ("jsonl", "rows.jsonl", json.dumps(NUMBERED).encode()),
        ("jsonl", "rows.json", json.dumps(NUMBERED, indent=1).encode()),
        (
            "bbh",
            "task.json",
            json.dumps(
                {"examples": [{"input": r["question"], "target": r["answer"]} for r in NUMBERED]}
            ).encode(),
        ),
        ("natural_instructions", "task001_say.json", json.dumps(instances(NUMBERED)).encode()),
    ],
)
def test_the_item_of_a_file_without_lines_is_counted_from_one(
    tmp_path: Path, format: str, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = problems(read(path, format=format))
    assert len(found) == len(NUMBERED)
    for problem in found:
        assert problem.source_file == name
        assert NUMBERED[problem.source_line - 1]["question"] in problem.question


def test_the_questions_of_a_document_of_passages_are_counted_through(tmp_path: Path) -> None:
    asked = [[f"How many {a}{b}?" for b in range(3)] for a in range(2)]
    document = {
        f"nfl_{a}": {
            "passage": "Goals.",
            "qa_pairs": [DROP_ROW | {"question": q, "query_id": q} for q in qs],
        }
        for a, qs in enumerate(asked)
    }
    (tmp_path / "drop.json").write_text(json.dumps(document))
    flat = [question for questions in asked for question in questions]
    for problem in problems(read(tmp_path / "drop.json", format="drop")):
        assert flat[problem.source_line - 1] in problem.question


def test_a_pair_of_lines_is_named_by_its_question(tmp_path: Path) -> None:
    lines = ["What is 1 + 1?", "2", "", "", "What is 2 + 1?", "3"]
    (tmp_path / "a__b.txt").write_text("\n".join(lines) + "\n")
    found = problems(read(tmp_path / "a__b.txt", format="deepmind_mathematics"))
    assert [lines[problem.source_line - 1] for problem in found] == [p.question for p in found]
    assert [problem.source_line for problem in found] == [1, 5]


def test_a_record_of_several_lines_is_named_by_its_last(tmp_path: Path) -> None:
    path = tmp_path / "crass.csv"
    path.write_text(
        CRASS_HEADER
        + '1;1;"A cup\nfalls.";Why?;Yes.;No.;Maybe.;\n1;2;It rains.;Why?;Yes.;No.;So.;\n'
    )
    found = problems(read(path, format="crass"))
    assert [problem.source_line for problem in found] == [3, 4]
    with path.open(newline="") as stream:
        reader = csv.reader(stream, delimiter=";")
        records = [(reader.line_num, cells) for cells in reader]
    for problem in found:
        assert dict(records)[problem.source_line][2] in problem.question


@pytest.mark.parametrize("format", SAMPLES)
def test_every_format_says_where_a_problem_is_and_no_machines_path(
    tmp_path: Path, format: str
) -> None:
    path = sample_file(tmp_path, format)
    for problem in problems(read(path, format=format)):
        assert problem.source_file == path.name and problem.source_line > 0


@pytest.mark.parametrize("format", SAMPLES)
def test_packed_files_and_directories_name_the_same_lines(tmp_path: Path, format: str) -> None:
    path = sample_file(tmp_path, format)
    alone = problems(read(path, format=format))
    lines = [problem.source_line for problem in alone]
    for folder in ("a", "b"):  # two files of one name
        (tmp_path / "task" / folder).mkdir(parents=True)
        (tmp_path / "task" / folder / path.name).write_bytes(path.read_bytes())
    found = read(tmp_path / "task", format=format)
    assert {row.reason for row in found if isinstance(row, Rejection)} <= {"duplicate_id"}
    for row in problems(found):
        folder, _, name = row.source_file.partition("/")
        assert folder in ("a", "b") and name == path.name and row.source_line in lines
    if format not in ("parquet", "datasets"):
        packed = tmp_path / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        again = problems(read(packed, format=format))
        assert [(p.source_file, p.source_line) for p in again] == [
            (packed.name, line) for line in lines
        ]


def test_parquet_packed_by_zstd_counts_rows_through_its_row_groups(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "z.parquet", compression="zstd", row_group_size=3)
    found = problems(read(tmp_path / "z.parquet", format="parquet"))
    assert [problem.source_line for problem in found] == list(range(1, 8))


def test_a_sample_and_worked_examples_leave_the_place_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in NUMBERED))
    for options in ({"rows_per_task": 3}, {"few_shot": (1, 2)}):
        found = problems(read(path, **options))
        assert len(found) >= 3
        for problem in found:
            assert NUMBERED[problem.source_line - 1]["question"] == problem.question


def test_a_name_that_cannot_be_printed_is_escaped_as_in_rejections(tmp_path: Path) -> None:
    name = "row\udce9\n.jsonl"
    path = tmp_path / name
    path.write_text('{"question": "What?", "answer": "this"}\n{\n')
    problem, rejection = read(path)
    assert isinstance(problem, Problem) and isinstance(rejection, Rejection)
    assert problem.source_file == ascii(name)
    assert rejection.problem_id == f"{problem.source_file}:2"
    [again] = from_table(to_table([problem], Problem), Problem)
    assert (again.source_file, again.source_line) == (problem.source_file, 1)
