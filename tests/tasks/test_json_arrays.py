"""A file that is one JSON array gives a row for each object, or one line that says why not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from orca2_gen.records import Problem
from orca2_gen.tasks import rows
from orca2_gen.tasks.soundness import check_sound
from tests.tasks.reading import SAMPLES, problems, read, reasons, source

ROWS = [{"question": f"{i}?", "answer": f"a{i}", "id": i} for i in range(5)]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.json.gz"])
def test_an_array_is_read_object_by_object(tmp_path: Path, indent: int | None, name: str) -> None:
    body = b"\xef\xbb\xbf\n" + json.dumps(ROWS, indent=indent).encode() + b"\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    check_sound(source(path))
    found = problems(read(path))
    assert [(x.problem_id, x.target) for x in found] == [(f"t/test/{i}", f"a{i}") for i in range(5)]


def test_a_bad_object_is_one_rejection_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    twice = '{"question": "?", "answer": "a", "answer": "b"}'
    long = json.dumps({"question": "?", "answer": "a", "more": "x" * 1_000_001})
    good = json.dumps({"question": '[a], {b}, \\"', "answer": "a]"})
    path.write_text(f"[{good}, {twice}, 7, {long}, null, {good}]")
    found = read(path)
    assert reasons(found) == [
        *("problem", "duplicate_key", "not_an_object", "too_long", "not_an_object", "problem")
    ]
    assert [x.problem_id for x in found if not isinstance(x, Problem)] == [
        f"x.json[{i}]" for i in range(1, 5)
    ]


def test_an_array_that_is_cut_or_goes_wrong_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    body = json.dumps(ROWS, indent=2)
    wrong = [body[:-1], body[:-9], body + "7", body + body, body.replace("},", "}", 1)]
    for content in [*wrong, body.replace('"answer":', '"answer"', 1), "[{]", '[{"a":1},]']:
        path.write_text(content)
        with pytest.raises(ValueError, match=r"x\.json: the JSON array (ends early|is no JSON)"):
            check_sound(source(path))


def test_a_large_array_is_told_how_to_become_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_DOCUMENT_BYTES", 100)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ROWS))
    with pytest.raises(ValueError, match=r"more than 100 bytes, .*one object per line"):
        read(path)


@pytest.mark.parametrize("format", ["gsm8k", "math", "aqua", "agieval"])
def test_every_format_of_rows_may_be_an_array(tmp_path: Path, format: str) -> None:
    lines = SAMPLES[format][1].splitlines()
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b", ".join(lines) + b"]")
    assert reasons(read(path, format=format)) == ["problem"] * len(lines)


def test_a_line_that_is_an_array_of_other_things_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('[1, 2]\n[]\n{"question": "?", "answer": "a"}\n')
    assert reasons(read(path)) == ["not_an_object", "not_an_object", "problem"]
