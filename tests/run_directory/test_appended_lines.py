"""Lines of several writers: each is whole, whatever lies before it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orca2_gen.run_directory.appended_lines import append_line


@pytest.mark.parametrize("left", [b'{"stage": "sco', b'{"step": 1}\n{"st', b"", b"{}\n", b"\n"])
def test_a_line_that_was_cut_short_gets_an_end_and_nothing_is_taken_away(
    tmp_path: Path, left: bytes
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(left)
    append_line(path, "whole")
    body = path.read_bytes()
    assert body.startswith(left) and body.endswith(b"\nwhole\n" if left else b"whole\n")
    assert body.count(b"\n") == left.count(b"\n") + 1 + (left != b"" and left[-1:] != b"\n")


def test_the_lines_of_several_writers_are_all_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"

    def write(writer: int) -> None:
        for number in range(200):
            append_line(path, f"{writer}:{number}:" + "x" * 300)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    found = [line for line in path.read_text().splitlines() if line]
    assert sorted(found) == sorted(f"{w}:{n}:" + "x" * 300 for w in range(4) for n in range(200))


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_regular_file_is_an_error_and_stays(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "lines", tmp_path / "diary"
    target.write_text("a diary")
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    with pytest.raises(OSError):
        append_line(path, "whole")
    assert target.read_text() == "a diary"
