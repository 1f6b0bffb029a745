from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.chat import Chat
from orca2_gen.dataset import export_place
from orca2_gen.dataset.export import export
from orca2_gen.strategies import Strategies
from tests.dataset.test_export import contents, dataset, examples_of
from tests.faults.fail_points import DIED, die_at


@pytest.fixture
def root(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    return dataset(tmp_path / "run", chatml, strategies, examples_of(chatml, strategies, 5))


def write(root: Path, out: Path, shape: Any = "sharegpt") -> dict[str, bytes]:
    export(root, out, shape=shape, format="jsonl")
    return contents(out)


def test_an_empty_directory_and_an_older_export_are_replaced(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    older = write(root, out)
    assert write(root, out, "tokens") != older and write(root, out) == older
    assert os.listdir(out.parent) == ["out"]


def test_an_older_export_is_replaced_where_two_directories_cannot_change_places(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = write(root, tmp_path / "out")
    monkeypatch.setattr(export_place, "_exchanged", lambda one, other: False)
    write(root, tmp_path / "out", "tokens")
    assert write(root, tmp_path / "out") == older
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


@pytest.mark.parametrize("name", ["notes.txt", "train-00000-of-00009.jsonl", ".hidden"])
def test_files_of_somebody_else_are_never_replaced(root: Path, tmp_path: Path, name: str) -> None:
    for out in (tmp_path / "foreign", tmp_path / "out"):
        if out.name == "out":
            write(root, out)
        out.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        before = contents(out)
        with pytest.raises(ValueError, match=r"nothing was touched"):
            write(root, out)
        assert contents(out) == before


@pytest.mark.parametrize("name", ["train-00000-of-00001.jsonl", "README.md", "export.json"])
def test_an_export_that_was_changed_is_somebodys(root: Path, tmp_path: Path, name: str) -> None:
    write(root, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes() + b"more")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=r"nothing was touched"):
        write(root, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_place_where_no_export_can_be_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for out, fault in [
        (root, "lies inside"),
        (root / "inner", "lies inside"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "file" / "inner", "cannot be written"),
        (tmp_path / "nowhere", "leads to nothing"),
        (tmp_path / "circle", r"circle|leads to nothing"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / "a\0b", "NUL"),
    ]:
        with pytest.raises(ValueError, match=fault) as raised:
            write(root, out)
        assert len(str(raised.value).splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["circle", "file", "nowhere", "run"]


def test_a_link_to_a_directory_stays_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(root, tmp_path / "link")
    write(root, tmp_path / "link", "tokens")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "export.json").exists()


def test_an_export_that_ends_anywhere_leaves_all_or_nothing(root: Path, tmp_path: Path) -> None:
    """Fault 17: a process ends at each call that reaches the disk, before it and after it."""
    wanted = {shape: write(root, tmp_path / shape, shape) for shape in ("sharegpt", "tokens")}
    for has_older in (False, True):
        point = 0
        while True:
            ended = set()
            for after in (False, True):
                out = tmp_path / f"{has_older}-{point}-{after}" / "out"
                out.parent.mkdir()
                if has_older:
                    write(root, out, "tokens")
                child = os.fork()
                if child == 0:
                    die_at(point, after=after)
                    write(root, out)
                    os._exit(0)
                ended.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                assert ended <= {0, DIED}
                older = [wanted["tokens"]] if has_older else [None]
                found = contents(out) if out.exists() else None
                assert found in [*older, wanted["sharegpt"]]
                assert write(root, out) == wanted["sharegpt"]
                assert os.listdir(out.parent) == ["out"]
            if ended == {0}:
                break
            point += 1
        assert point > 5


def test_what_somebody_still_writes_is_left_alone(root: Path, tmp_path: Path) -> None:
    with export_place.export_place(tmp_path / "out", root) as folder:
        (folder / "export.json").write_text("{}")
        write(root, tmp_path / "other")
        export_place._remove_leftovers(tmp_path / "out")
        assert (folder / "export.json").exists()


def test_a_file_system_without_locks_holds_exports_and_keeps_what_may_be_written_still(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(export_place.fcntl, "flock", refuse)
    left = tmp_path / ".out.tmp-host-1-0123abcd"
    left.mkdir()
    assert write(root, tmp_path / "out") and left.exists()
    monkeypatch.undo()
    assert write(root, tmp_path / "out") and not left.exists()


def test_what_came_to_out_in_the_meantime_stays(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(ValueError, match="nothing was touched"),
        export_place.export_place(out, root),
    ):
        out.mkdir()
        (out / "mine").write_text("mine")
    assert contents(out) == {"mine": b"mine"}
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


FULL = """
import resource, signal, sys
from pathlib import Path
from orca2_gen.dataset.export import export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    export(Path(sys.argv[1]), Path(sys.argv[2]), shape="tokens", format=sys.argv[3])
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
@pytest.mark.parametrize("room", [0, 100, 700])
def test_a_full_disk_is_told_with_file_and_bytes_and_leaves_nothing(
    root: Path, tmp_path: Path, format: str, room: int
) -> None:
    """A limit on a file's size stands for the disk's."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, root, tmp_path / "out", format, str(room)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert resource.RLIMIT_FSIZE and os.strerror(errno.EFBIG) in done.stdout
    assert f"{tmp_path}/out/train-00000.{format}" in done.stdout and " bytes" in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == ["run"]
