from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.committed_files import MOST_NAMED, CommittedFiles, naming_fork
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from tests.run_directory.test_ledger import committed


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    committed(tmp_path, 3)
    return read_ledger(tmp_path)


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def unit_files(ledger: Ledger) -> list[Path]:
    return [ledger.run_dir / e.path for r in ledger.units.values() for e in r.files]


@pytest.mark.parametrize("by_digest", [False, True])
def test_whole_files_are_counted_and_the_line_says_how_they_were_checked(
    ledger: Ledger, by_digest: bool
) -> None:
    line = CommittedFiles(ledger=ledger, by_digest=by_digest).check()
    assert line.startswith("checked 6 committed files by size")
    assert ("`--check`" in line, "and digest" in line) == (not by_digest, by_digest)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("by_digest", [False, True])
@pytest.mark.parametrize("damage", [cut, Path.unlink, to_folder, to_fifo, to_loop, to_device])
@pytest.mark.parametrize("number", [0, 1])
def test_a_file_of_another_size_or_kind_is_always_named(
    ledger: Ledger, by_digest: bool, damage: object, number: int
) -> None:
    assert callable(damage)
    victim = unit_files(ledger)[number]
    damage(victim)
    with pytest.raises(DamagedFile, match="1 of 6 committed files are damaged") as found:
        CommittedFiles(ledger=ledger, by_digest=by_digest).check()
    first, second = str(found.value).splitlines()
    assert f"--fork {ledger.run_dir}" in first and victim.name in second


def test_a_changed_byte_is_found_by_digest_even_if_it_comes_between_two_checks(
    ledger: Ledger,
) -> None:
    files = CommittedFiles(ledger=ledger, by_digest=True)
    files.check()
    victim = unit_files(ledger)[0]
    times = victim.stat()
    flip(victim)
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a faulty disk would leave it
    with pytest.raises(DamagedFile, match=victim.name):
        files.check()
    CommittedFiles(ledger=ledger, by_digest=False).check()  # what it says it does not look at


def test_no_more_than_twenty_damaged_files_are_named(tmp_path: Path) -> None:
    committed(tmp_path, 15)
    ledger = read_ledger(tmp_path)
    for path in unit_files(ledger):
        path.unlink()
    with pytest.raises(DamagedFile, match="30 of 30") as found:
        CommittedFiles(ledger=ledger, by_digest=False).check()
    lines = str(found.value).splitlines()
    assert len(lines) == 1 + MOST_NAMED + 1 and lines[-1] == "  and 10 more"


class DamagedElsewhere(DamagedFile):
    pass


def test_the_error_of_a_damaged_file_says_what_to_do_once(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile) as found, naming_fork(tmp_path):
        raise DamagedFile("x is cut")
    assert str(found.value).startswith("x is cut; ") and f"--fork {tmp_path}" in str(found.value)
    for error in (DamagedFile("x; use --fork"), DamagedElsewhere("x; do this"), ValueError("x")):
        with pytest.raises(ValueError) as found, naming_fork(tmp_path):
            raise error
        assert found.value is error
