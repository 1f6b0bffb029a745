from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.run_directory.regular_files import UnusableFile, open_regular, read_regular


def test_a_regular_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for body in (b"", b"abc"):
        path.write_bytes(body)
        assert read_regular(path, 3) == body
        with open_regular(path) as file:
            assert file.read() == body


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 3) == b"abc"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


MAKERS: dict[str, Callable[[Path], object]] = {
    "is a directory": lambda path: path.mkdir(),
    "is a FIFO": lambda path: os.mkfifo(path),
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    "cannot be opened: No such device": _socket,
    "is a link that leads to nothing": lambda path: path.symlink_to("nowhere"),
    "cannot be opened: Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("line", MAKERS)
def test_nothing_but_a_regular_file_is_read_and_nothing_waits(tmp_path: Path, line: str) -> None:
    path = tmp_path / "thing"
    MAKERS[line](path)
    with pytest.raises(UnusableFile, match=line):
        read_regular(path, 10)


@pytest.mark.parametrize("name", ["n" * 4096, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableFile) as caught:
        open_regular(tmp_path / name)
    assert "cannot be opened" in str(caught.value) and len(str(caught.value)) < 500


def test_an_absent_file_is_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 10)


def test_a_sparse_file_is_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(200 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnusableFile, match="214748364800 bytes; expected at most 1000"):
        read_regular(path, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB
