"""Lines: whatever the file holds, each gives one Problem or one Rejection with its reason."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection
from orca2_gen.tasks.formats import FORMATS
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.rows import MAX_LINE_BYTES
from tests.tasks.reading import GOOD, line, read, read_lines, reasons, source

BAD_LINES = [
    ("not_json", '{"question": "What?", "answer": "th'),
    ("not_json", "question: What?"),
    ("not_json", '{"question": "What?", "answer": "this"} {}'),
    ("not_json", '{"question": "tab\there", "answer": "this"}'),
    ("not_an_object", "[1, 2]"),
    ("not_an_object", "null"),
    ("not_an_object", "7"),
    ("duplicate_key", '{"question": "What?", "answer": "a", "answer": "b"}'),
    ("duplicate_key", '{"question": "What?", "answer": "a", "more": {"x": 1, "x": 2}}'),
    ("no_question", '{"answer": "this"}'),
    ("no_question", line(question=" \n\t\u3000")),
    ("no_question", line(question=None)),
    ("no_question", line(question=["What?"])),
    ("no_answer", '{"question": "What?"}'),
    ("no_answer", line(answer="  ")),
    ("no_answer", line(answer=None)),
    ("bad_answer", line(answer=True)),
    ("bad_answer", line(answer=[])),
    ("bad_answer", line(answer=[["this"]])),
    ("several_answers", line(answer=["this", "that"])),
    ("several_answers", line(choices=["x", "y"], answer=["A", "B"])),
    ("bad_answer", line(answer={"text": "this"})),
    ("bad_answer", line(choices=["x", "y"], answer="C")),
    ("bad_answer", line(choices=["x", "y"], answer="z")),
    ("bad_answer", line(choices=["B", "y"], answer="B")),
    ("bad_answer", line(choices=["x", "y"], answer=1)),
    ("bad_choices", line(choices=["x"], answer="A")),
    ("bad_choices", line(choices=[], answer="A")),
    ("bad_choices", line(choices="xy", answer="A")),
    ("bad_choices", line(choices=["x", " "], answer="A")),
    ("bad_choices", line(choices=["x", None], answer="A")),
    ("bad_choices", line(choices=["x", ["y"]], answer="A")),
    ("duplicate_gold", line(choices=["x", "X."], answer="A")),
    ("duplicate_gold", line(choices=["y", "x", "X."], answer="x")),
    ("bad_choices", line(choices=["A) x", "B) y"], answer="A")),
    ("bad_choices", line(choices=["(A) x", "(B) y"], answer="A")),
    ("bad_choices", line(choices=[str(i) for i in range(27)], answer="A")),
    ("bad_id", line(id="")),
    ("bad_id", line(id=" ")),
    ("bad_id", line(id=None)),
    ("bad_id", line(id=True)),
    ("bad_id", line(id=1.5)),
    ("bad_id", line(id=["x"])),
    ("bad_id", line(id="a\nb")),
    ("bad_id", line(id="a\u2028b")),
    ("bad_id", line(id="a\x7fb")),
    ("bad_id", line(id="x" * 201)),
    ("bad_id", line(id="\ud800")),
    ("bad_text", line(question="\ud800 What?")),
    ("bad_text", line(answer="th\udfffis")),
    ("bad_text", line(question="What\0?")),
    ("bad_text", line(choices=["x", "\ud800"], answer="A")),
    ("bad_text", line(category="\ud800")),
    ("bad_text", line(category=["x"])),
    ("bad_text", b'{"question": "What\xff?", "answer": "this"}'),
    ("bad_text", b'{"question": "What\x00?", "answer": "this"}'),
    ("bad_number", '{"question": "What?", "answer": NaN}'),
    ("bad_number", '{"question": "What?", "answer": -Infinity}'),
    ("bad_number", line(more=float("inf"))),
    ("bad_number", '{"question": "What?", "answer": ' + "9" * 5000 + "}"),
    ("bad_number", '{"question": "What?", "answer": 0.' + "9" * 5000 + "}"),
    (
        "too_deep",
        '{"question": "What?", "answer": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ),
    ("too_deep", "[" * 100_000),
    ("too_long", line(question="x" * 100_001)),
    ("too_long", line(question="x" * 999_900)),
    ("too_long", line(question="x" * 1_000_000)),
    ("too_long", line(answer="x" * 100_001)),
    ("too_long", line(question="x" * 60_000, choices=["x" * 30_000, "y" * 30_000], answer="A")),
    ("too_long", " " * (MAX_LINE_BYTES + 1) + "{"),
]


@pytest.mark.parametrize(("reason", "bad"), BAD_LINES)
def test_a_bad_line_is_rejected_with_its_reason_and_the_next_is_read(
    tmp_path: Path, reason: str, bad: str | bytes
) -> None:
    middle = (bad if isinstance(bad, bytes) else bad.encode()).removesuffix(b"\n") + b"\n"
    found = read_lines(tmp_path, GOOD.encode() + middle + GOOD.encode())
    assert reasons(found) == ["problem", reason, "problem"]
    rejection = found[1]
    assert isinstance(rejection, Rejection)
    assert (rejection.problem_id, rejection.stage) == ("rows.jsonl:2", "problems")
    assert rejection.detail.startswith("rows.jsonl:2: ")
    assert (
        rejection.detail.isascii() and len(rejection.detail) < 300 and "\n" not in rejection.detail
    )
    assert [x.problem_id for x in found if isinstance(x, Problem)] == ["t/test/0", "t/test/2"]


def test_bom_crlf_blank_lines_and_a_missing_last_newline_are_fine(tmp_path: Path) -> None:
    rows = "\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n \t\n\n" + GOOD.strip()
    found = read_lines(tmp_path, rows)
    assert [x.problem_id for x in found if isinstance(x, Problem)] == ["t/test/0", "t/test/4"]


def test_line_separators_inside_strings_do_not_split_lines(tmp_path: Path) -> None:
    question = "a\u2028b\u2029c\x85d"
    row = json.dumps({"question": question, "answer": "x"}, ensure_ascii=False) + "\n"
    (problem,) = read_lines(tmp_path, row)
    assert isinstance(problem, Problem) and problem.question == question


def test_a_last_line_cut_short_is_not_json(tmp_path: Path) -> None:
    assert reasons(read_lines(tmp_path, GOOD + GOOD[:-9])) == ["problem", "not_json"]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read_lines(tmp_path, b"") == []
    assert read_lines(tmp_path, b"\xef\xbb\xbf\n\n") == []


def test_a_gzip_file_is_read_and_one_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    rows = "".join(line(question=f"What is {i} * {i * 7919}?") for i in range(50))
    whole = gzip.compress(rows.encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole)
    expected = read(path)
    assert reasons(expected) == ["problem"] * 50
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"rows\.jsonl\.gz: the gzip data ends early"):
            read(path)


def test_a_gzip_file_that_is_damaged_or_goes_on_as_something_else_is_an_error(
    tmp_path: Path,
) -> None:
    whole = gzip.compress("".join(line(id=i) for i in range(5000)).encode())
    path = tmp_path / "rows.jsonl.gz"
    for at in (len(whole) // 2, -6):  # the data, and the checksum behind them
        content = bytearray(whole)
        content[at] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(ValueError, match="the gzip data is damaged"):
            read(path)
    path.write_bytes(whole + b"garbage")
    with pytest.raises(ValueError, match="is followed by other bytes after line 5000"):
        read(path)


def test_members_of_a_gzip_file_and_zeros_behind_them_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.GZ"
    path.write_bytes(b"".join(gzip.compress(line(id=i).encode()) for i in range(9)) + bytes(512))
    assert reasons(read(path)) == ["problem"] * 9


def test_a_gzip_bomb_is_one_rejected_line_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb") as stream:
        for _ in range(300):
            stream.write(bytes(1_000_000))
        stream.write(b"\n" + GOOD.encode())
    tracemalloc.start()
    found = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(found) == ["too_long", "problem"] and peak < 8_000_000


def test_a_long_line_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        stream.write(GOOD.encode())
        for _ in range(30):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\n" + GOOD.encode())
    tracemalloc.start()
    found = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(found) == ["problem", "too_long", "problem"]
    assert peak < 5_000_000
    assert isinstance(found[1], Rejection) and "30000001 bytes" in found[1].detail


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(GOOD * 100_000)
    tracemalloc.start()
    next(read_task(source(path)).rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


OF_LINES = sorted(set(FORMATS) - {"parquet", "datasets"})
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = [
    *("id", "question", "answer", "choices", "category", "more", "inputs", "targets", "input"),
    *("target", "output", "definition", "options", "label", "correct", "passage", "article"),
    *("problem", "solution", "Premise", "QCC", "CorrectAnswer", "Answer1", "other", "level"),
    *("messages", "conversations", "answer_index", "answer_number", "endings", "text"),
]
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES).map(lambda row: json.dumps(row).encode())
LINES = st.one_of(ROWS, st.just(GOOD.encode().strip()), st.binary(max_size=20), st.just(b""))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(LINES, max_size=12),
    format=st.sampled_from(sorted(set(FORMATS) - {"parquet", "datasets"})),
)
def test_every_line_that_is_not_blank_gives_exactly_one_result(
    tmp_path: Path, lines: list[bytes], format: str
) -> None:
    content = b"\n".join(lines)
    found = read_lines(tmp_path, content, format=format)
    rows = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(found) == sum(bool(row.strip()) for row in rows)
    ids = [x.problem_id for x in found]
    assert len(set(ids)) == len(ids)
    for x in found:
        assert x.problem_id.encode("utf-8")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=st.lists(st.text(min_size=1, max_size=20), max_size=10))
def test_accepted_ids_are_exactly_the_distinct_ones(tmp_path: Path, ids: list[str]) -> None:
    found = read_lines(tmp_path, "".join(line(id=x) for x in ids))
    refused = sum(reason == "bad_id" for reason in reasons(found))
    good = [x for x, reason in zip(ids, reasons(found), strict=True) if reason != "bad_id"]
    distinct = {unicodedata.normalize("NFC", x) for x in good}
    assert Counter(reasons(found))["problem"] == len(distinct)
    assert refused + len(good) == len(ids)
