from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.json_files import parsed, read_json


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"\0" * 100, "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b"[" * 65 + b"]" * 65, "nested"),
        (b'{"a": "\\ud800"}', "not JSON"),
    ],
)
def test_what_is_not_json_is_a_damaged_file_in_one_line(
    tmp_path: Path, body: bytes, words: str
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(body)
    with pytest.raises(DamagedFile, match=words) as found:
        read_json(file)
    assert str(file) in str(found.value) and "\n" not in str(found.value)


def test_what_is_no_file_of_a_sensible_size_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    for name in ("fifo", "loop", "device", "sparse", ".", "x" * 4096):
        with pytest.raises(DamagedFile) as found:
            read_json(tmp_path / name)
        assert len(str(found.value)) < 500
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent")


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, r"a.json lacks x"),
        ([], r"a.json: the whole is \[\]; expected an object"),
        ({"x": "1"}, r'a.json: x is "1"; expected a whole number'),
        ({"x": True}, r"a.json: x is true; expected a whole number"),
        ({"x": 1.5}, r"a.json: x is 1.5; expected a whole number"),
        ({"x": 1, "names": "ab"}, r'a.json: names is "ab"; expected a list'),
        ({"x": 1, "names": ["a", None]}, r"a.json: names.1 is null; expected a text"),
    ],
)
def test_another_shape_is_a_damaged_file_in_plain_words(value: object, words: str) -> None:
    with pytest.raises(DamagedFile, match=words):
        parsed(Path("a.json"), value, TypeAdapter(Point))


def test_the_expected_shape_is_read_with_its_defaults() -> None:
    point = parsed(Path("a.json"), {"x": 1 << 70, "more": 1}, TypeAdapter(Point))
    assert point == Point(x=1 << 70)
