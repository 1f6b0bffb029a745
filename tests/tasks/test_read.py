"""Readers: every line becomes a Problem or a Rejection with a reason, whatever the file holds."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.config.task import STATED, TaskConfig
from orca2_gen.grading.grade import grade
from orca2_gen.records import AnswerType, Problem, Rejection
from orca2_gen.tasks.formats import FORMATS
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.soundness import check_sound
from orca2_gen.tasks.source import TaskSource
from tests.tasks.reading import (
    GOOD,
    SAMPLES,
    line,
    problems,
    read,
    read_lines,
    read_rows,
    reasons,
    sample_file,
    source,
)


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
def test_a_duplicate_id_is_rejected_naming_the_first_place(
    tmp_path: Path, one: Any, other: Any
) -> None:
    second = line() if other is None else line(id=other)
    found = read_lines(tmp_path, line(id=one) + second)
    assert reasons(found) == ["problem", "duplicate_id"]
    assert isinstance(found[1], Rejection) and " rows.jsonl:1 " in found[1].detail


def refuse(path: Path, match: str, **options: Any) -> None:
    arguments: dict[str, Any] = {"name": "t", "format": "jsonl", "split": "test"}
    with pytest.raises(ValueError, match=match) as caught:
        list(read_task(TaskSource(path=path, **(arguments | options))).rows)
    assert "\n" not in str(caught.value)


def test_what_concerns_the_whole_task_is_one_clear_error(tmp_path: Path) -> None:
    good = tmp_path / "rows.jsonl"
    good.write_text(GOOD)
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "absent.jsonl", "nothing there")
    refuse(tmp_path / "empty", "expected files named")
    refuse(good, "unknown format 'xml'", format="xml")
    for name in ("", "../x", "a/b", ".hidden", "a\nb", "x" * 101):
        refuse(good, "task name", name=name)
        refuse(good, "task split", split=name)
    refuse(good, "columns are for the formats", format="gsm8k", columns={"question": "q"})
    refuse(good, "unknown field 'prompt'", columns={"prompt": "q"})
    plain = tmp_path / "rows.jsonl.gz"
    plain.write_text(GOOD)
    refuse(plain, "not gzip")


def test_an_answer_type_that_a_format_cannot_have_is_one_clear_error(tmp_path: Path) -> None:
    for format in FORMATS:
        path = sample_file(tmp_path, format)
        for kind in set(get_args(AnswerType)) - set(FORMATS[format].answer_types):
            refuse(
                path,
                f"answer_type is '{kind}', which rows of format '{format}' cannot have",
                format=format,
                answer_type=kind,
            )


def test_a_config_names_exactly_the_formats_that_there_are() -> None:
    assert set(get_args(TaskConfig.model_fields["format"].annotation)) == set(FORMATS)


def test_a_task_source_is_a_task_config_and_no_more() -> None:
    config = TaskConfig(name="t", format="jsonl", path="rows.jsonl")
    made = TaskSource(**config.model_dump(exclude={"path", *STATED}), path=Path(config.path))
    assert made == TaskSource(name="t", format="jsonl", path=Path("rows.jsonl"), split="train")


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_row_of_every_format_becomes_a_problem_that_the_grader_can_grade(
    tmp_path: Path, format: str
) -> None:
    found = read(sample_file(tmp_path, format), format=format)
    assert len(found) > 0 and set(reasons(found)) == {"problem"}
    for problem in problems(found):
        assert problem.problem_id.startswith("t/test/") and problem.problem_id.count("/") == 2
        answer = problem.target.replace("\n", "; ")
        if problem.answer_type != "mathematics":  # those are compared in a child process
            assert grade(problem, f"Answer: {answer}", "stop").outcome == "correct"


COLUMNAR = {"parquet", "datasets"}


@pytest.mark.parametrize("format", sorted(COLUMNAR))
def test_a_parquet_or_arrow_file_cut_anywhere_is_an_error_before_and_while_it_is_read(
    tmp_path: Path, format: str
) -> None:
    path = sample_file(tmp_path, format)
    whole = path.read_bytes()
    check_sound(source(path, format))
    for size in range(0, len(whole), 23):
        path.write_bytes(whole[:size])
        for look in (read, look_at):
            with pytest.raises(ValueError, match=rf"{path.name}: .* fetch the file again"):
                look(path, format=format)


def look_at(path: Path, *, format: str) -> None:
    check_sound(source(path, format))


@pytest.mark.parametrize("format", sorted(set(FORMATS) - COLUMNAR))
def test_a_file_of_text_cut_anywhere_is_read_or_rejected_and_never_raises(
    tmp_path: Path, format: str
) -> None:
    path = sample_file(tmp_path, format)
    whole = path.read_bytes()
    num_rows = len(read(path, format=format))
    for size in range(0, len(whole), 1 if len(whole) < 1_000 else 23):
        path.write_bytes(whole[:size])
        found = read(path, format=format)
        assert len(found) <= num_rows + 1
        assert len({x.problem_id for x in found}) == len(found)


@pytest.mark.parametrize("format", sorted(set(FORMATS) - COLUMNAR))
def test_a_gzip_file_of_every_format_reads_as_the_file_itself_and_a_cut_one_is_an_error(
    tmp_path: Path, format: str
) -> None:
    path = sample_file(tmp_path, format)
    expected = read(path, format=format)
    packed = gzip.compress(path.read_bytes())
    path = path.with_name(path.name + ".gz")
    path.write_bytes(packed)
    assert read(path, format=format) == expected
    for size in range(0, len(packed), 7):
        path.write_bytes(packed[:size])
        for look in (read, look_at):
            with pytest.raises(ValueError, match=rf"{path.name}: .*cut off; fetch the file again"):
                look(path, format=format)


@pytest.mark.parametrize("format", sorted(FORMATS))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(data=st.data())
def test_a_file_with_bytes_changed_gives_rows_or_rejections_or_one_error_if_it_is_packed(
    tmp_path: Path, format: str, data: st.DataObject
) -> None:
    path = sample_file(tmp_path, format)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read(path, format=format)
    except ValueError as error:
        assert format in COLUMNAR and f"task file {path}" in str(error)
        return
    assert len({x.problem_id for x in found}) == len(found)
    for x in found:
        assert x.problem_id.encode("utf-8") and (isinstance(x, Problem) or x.detail)


def test_ids_of_a_directory_name_the_file_and_no_path_above_it(tmp_path: Path) -> None:
    for name in ("algebra/7.json", "algebra/8.json", "number theory/7.json"):
        path = tmp_path / "MATH" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SAMPLES["math"][1])
    found = problems(read(tmp_path / "MATH", format="math"))
    assert [x.problem_id for x in found] == [
        "t/test/algebra%2F7.json",
        "t/test/algebra%2F8.json",
        "t/test/number%20theory%2F7.json",
    ]


def test_shards_of_lines_are_one_task_with_different_ids(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(GOOD * 2 + "{")
    found = read(tmp_path)
    assert [x.problem_id for x in found] == [
        *("t/test/a.jsonl-0", "t/test/a.jsonl-1", "a.jsonl:3"),
        *("t/test/b.jsonl-0", "t/test/b.jsonl-1", "b.jsonl:3"),
    ]


MISTYPED = [
    ("jsonl", {"prompt": "x?", "label": "y"}, "'question'"),
    ("jsonl", {"question": "x?", "label": "y"}, "'answer'"),
    ("gsm8k", {"question": "x?", "solution": "y"}, "'answer'"),
    ("gsm8k", {"problem": "x?", "answer": "#### 1"}, "'question'"),
    ("flan", {"input": "x?", "target": "y"}, "'inputs'"),
    ("flan", {"inputs": "x?", "target": "y"}, "'targets'"),
    ("aqua", {"question": "x?", "choices": ["A)1", "B)2"], "correct": "A"}, "'options'"),
    ("aqua", {"question": "x?", "options": ["A)1", "B)2"], "answer": "A"}, "'correct'"),
    ("agieval", {"question": "x?", "options": ["(A)1", "(B)2"], "gold": "A"}, "'label'"),
    ("agieval", {"question": "x?", "gold": "A"}, "'answer'"),
    ("math", {"problem": "x?", "proof": "y"}, "'solution'"),
    ("math", {"question": "x?", "solution": "\\boxed{3}"}, "'problem'"),
    ("bbh", {"input": "x?", "answer": "y"}, "'target'"),
    ("deepmind_mathematics", {"question": "x?", "gold": "y"}, "'answer'"),
    ("drop", {"passage": "x.", "question": "y?", "gold": "z"}, "'answer'"),
    ("race", {"article": "x.", "question": "y?", "choices": ["a", "b"]}, "'options'"),
    ("crass", {"Premise": "x.", "Question": "y?"}, "'QCC'"),
    ("natural_instructions", {"definition": "Say.", "input": "x", "target": "y"}, "'output'"),
]


@pytest.mark.parametrize(("format", "row", "missing"), MISTYPED)
def test_a_row_without_a_needed_field_is_told_which_and_which_fields_it_has(
    tmp_path: Path, format: str, row: dict[str, Any], missing: str
) -> None:
    (found,) = read_rows(tmp_path, row, format=format)
    assert isinstance(found, Rejection), found
    assert f"{missing}" in found.detail and "found no such field; the row has " in found.detail
    assert all(f"'{name}'" in found.detail for name in row)


def test_a_mapped_column_that_a_row_lacks_is_named_with_the_columns_it_has(tmp_path: Path) -> None:
    columns = {"question": "promt", "answer": "label"}
    (found,) = read_rows(tmp_path, {"prompt": "x?", "label": "y"}, format="jsonl", columns=columns)
    assert isinstance(found, Rejection) and found.reason == "no_question"
    assert "columns.question names 'promt', the row has 'prompt', 'label'" in found.detail


def test_a_row_of_many_long_names_is_told_in_short(tmp_path: Path) -> None:
    (found,) = read_rows(tmp_path, {f"{'name' * 30}\n{n}": n for n in range(50)}, format="jsonl")
    assert isinstance(found, Rejection)
    assert len(found.detail) < 300 and found.detail.isascii() and "and 44 more" in found.detail
