"""A task's files are looked at before a run begins: whole, readable and not empty."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from orca2_gen.tasks.soundness import check_sound, notes_on
from tests.tasks.reading import (
    GOOD,
    PLAIN_TABLE,
    SAMPLES,
    line,
    parquet_bytes,
    problems,
    read,
    reasons,
    sample_file,
    source,
    stream_bytes,
)


def look(path: Path, format: str = "jsonl") -> str:
    """The one line of the error; empty if the files are fine."""
    try:
        check_sound(source(path, format))
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("format", sorted(SAMPLES))
def test_a_good_file_of_every_format_is_fine_and_an_empty_one_is_not(
    tmp_path: Path, format: str
) -> None:
    path = sample_file(tmp_path, format)
    assert look(path, format) == ""
    path.write_bytes(b"")
    said = look(path, format)
    assert "holds no rows" in said or "fetch the file again" in said or format in DOCUMENTS


DOCUMENTS = ("bbh", "crass", "drop", "math", "natural_instructions", "race")
"""Formats in which an empty file is one bad row: no document."""


@pytest.mark.parametrize("content", [b"", b"\n \n\t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: bytes, packed: bool) -> None:
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    said = look(path)
    assert said.startswith("task 't': ") and "it holds no rows; " in said


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(parquet_bytes(PLAIN_TABLE.slice(0, 0)))
    assert "it holds no rows" in look(tmp_path / "rows.parquet", "parquet")
    (tmp_path / "data-0.arrow").write_bytes(stream_bytes(PLAIN_TABLE.slice(0, 0)))
    assert "no file in it holds a row" in look(tmp_path, "datasets")


def test_an_empty_file_in_a_directory_is_a_rejection_that_comes_last_and_names_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    (tmp_path / "b.jsonl").write_text(GOOD)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert look(tmp_path) == ""
    found = read(tmp_path)
    assert reasons(found) == ["problem", "problem", "empty_file"]
    assert found[-1].problem_id == "a.jsonl"
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.jsonl.gz").unlink()
    assert "no file in it holds a row" in look(tmp_path)


def test_what_a_directory_holds_and_no_one_reads_is_told(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    names = ("a.jsonl", "B.JSONL.GZ", "README.md", "c.jsonl.zst", "sub/d.txt", ".hidden")
    for name in names:
        (tmp_path / name).write_bytes(
            gzip.compress(GOOD.encode()) if "GZ" in name else GOOD.encode()
        )
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (said,) = notes_on(source(tmp_path))
    assert said.startswith(f"t: 4 of the files in {tmp_path} are not read, ") and said.endswith(
        "takes *.jsonl: README.md, c.jsonl.zst, sub/d.txt, sub/loop/"
    )
    assert reasons(read(tmp_path)) == ["problem"] * 2
    assert notes_on(source(tmp_path / "a.jsonl")) == []


def test_a_missing_shard_of_a_data_set_is_an_error_and_of_other_files_a_line(
    tmp_path: Path,
) -> None:
    for index in (0, 2):
        (tmp_path / f"data-{index:05d}-of-00003.arrow").write_bytes(stream_bytes(PLAIN_TABLE))
        (tmp_path / f"x-{index:05d}-of-00003.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert "it holds 2 of the 3 shards of 'data'; save" in look(tmp_path, "datasets")
    assert look(tmp_path) == ""
    assert any("2 of the 3 shards of 'x'" in note for note in notes_on(source(tmp_path)))
    listed = [{"filename": f"data-0000{index}-of-00003.arrow"} for index in range(3)]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": listed}))
    assert "data-00001-of-00003.arrow" in look(tmp_path, "datasets")
    (tmp_path / "data-00001-of-00003.arrow").write_bytes(stream_bytes(PLAIN_TABLE))
    assert look(tmp_path, "datasets") == ""
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "cache-1f.arrow").write_bytes(b"")
    names = [note.rpartition(": ")[2] for note in notes_on(source(tmp_path, "datasets"))]
    assert names == ["x-00000-of-00003.jsonl.gz, x-00002-of-00003.jsonl.gz"]


ARCHIVES = {
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(9),
    "xz": lzma.compress(GOOD.encode()),
    "bzip2": bz2.compress(GOOD.encode()),
    "gzip": gzip.compress(GOOD.encode()),
    "a zip archive": b"PK\x03\x04" + bytes(9),
    "Parquet": parquet_bytes(PLAIN_TABLE),
    "UTF-16": GOOD.encode("utf-16"),
    "no text": GOOD.encode("utf-16-be"),
    "UTF-16 or": GOOD.encode("utf-16-le"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_no_text_is_named_for_what_it_is(
    tmp_path: Path, kind: str, packed: bool
) -> None:
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(ARCHIVES[kind]) if packed else ARCHIVES[kind])
    assert kind in look(path)


def test_arrow_s_file_format_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "data-0.arrow").write_bytes(b"ARROW1\0\0" + stream_bytes(PLAIN_TABLE))
    assert "expected the stream format" in look(tmp_path, "datasets")


def test_a_gzip_file_cut_at_its_very_end_is_found_before_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    whole = gzip.compress("".join(line(id=i) for i in range(5000)).encode())
    for name in "abc":
        (folder / f"{name}.jsonl.gz").write_bytes(whole)
    assert look(folder) == ""
    (folder / "b.jsonl.gz").write_bytes(whole[:-1])
    assert f"task file {folder}/b.jsonl.gz: the gzip data ends early" in look(folder)


def test_a_sparse_file_a_loop_of_links_and_a_name_too_long_are_refused_at_once(
    tmp_path: Path,
) -> None:
    started = time.monotonic()
    for name, format in (("a.jsonl", "jsonl"), ("a.parquet", "parquet"), ("a.json", "bbh")):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 200 * 10**9)
        assert look(tmp_path / name, format)
        (tmp_path / name).unlink()
    (tmp_path / "b").symlink_to(tmp_path / "c")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert "found nothing there" in look(tmp_path / "b")
    with pytest.raises(ValueError, match=r"task file /[y/]+\.\.\.: .* too long; correct"):
        check_sound(source(Path("/" + "y/" * 3000)))
    assert time.monotonic() - started < 10


def test_a_fifo_a_device_and_a_dangling_link_are_refused_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    for suffix, format in ((".jsonl", "jsonl"), (".jsonl.gz", "jsonl"), (".parquet", "parquet")):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        os.mkfifo(folder / f"a{suffix}")
        (folder / f"b{suffix}").symlink_to("/dev/zero")
        (folder / f"c{suffix}").symlink_to(folder / "nothing")
        for name in "abc":
            assert look(folder / f"{name}{suffix}", format)
            with pytest.raises(ValueError, match=f"{name}{suffix}"):
                read(folder / f"{name}{suffix}", format=format)
        assert f"{folder}/a{suffix} is a FIFO; expected a regular file" in look(folder, format)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["choices", "id", "category"])
def test_a_mapped_column_that_no_row_has_is_an_error_before_anything_is_read(
    tmp_path: Path, format: str, name: str
) -> None:
    rows = [{"q": "?", "a": "A", "options": ["x", "y"]}, {"q": "?", "a": "B", "options": None}]
    path = tmp_path / "rows"
    if format == "parquet":
        path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows)))
    else:
        path.write_text("not json\n" + "".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "q", "answer": "a", "choices": "options"}
    check_sound(source(path, format, columns=columns))
    with pytest.raises(ValueError, match=r"'?option'?.*'?q'?, '?a'?, '?options'?"):
        check_sound(source(path, format, columns=columns | {name: "option"}))


def test_a_mapped_column_that_only_some_rows_have_is_an_error_of_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "?", "a": "x"}\n{"q": "?", "a": "x", "c": ["x", "y"], "k": "k"}\n')
    columns = {"question": "q", "answer": "a", "choices": "c", "category": "k"}
    check_sound(source(path, columns=columns))
    assert reasons(read(path, columns=columns)) == ["no_choices", "problem"]


@pytest.mark.parametrize("body", ['{"data": [{"question": "?"}]}', "[[1], [2]]"])
def test_json_that_is_spread_over_lines_is_one_line(tmp_path: Path, body: str) -> None:
    path = tmp_path / "x.json"
    path.write_text("\n" + json.dumps(json.loads(body), indent=2))
    assert "one object per line" in look(path)
    assert "one object per line" not in look(path, "bbh")


def test_an_index_that_counts_from_1_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    columns = {"question": "q", "choices": "c", "answer_index": "a"}

    def write(*answers: object) -> None:
        rows = [{"q": "?", "c": ["x", "y"], "a": answer} for answer in answers]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    for answers in (("1", "2"), (1, 2.0), (None, 2)):
        write(*answers)
        with pytest.raises(ValueError, match="answer_number, which counts from 1"):
            check_sound(source(path, columns=columns))
    write("1", "2")
    numbers = {"question": "q", "choices": "c", "answer_number": "a"}
    check_sound(source(path, columns=numbers))
    assert [x.target for x in problems(read(path, columns=numbers))] == ["A", "B"]
    for answers in ((1, 1), (0, 1), (2, 0), ("x", None)):
        write(*answers)
        check_sound(source(path, columns=columns))
    write(0, 3)
    assert reasons(read(path, columns=numbers)) == ["bad_answer"] * 2
