from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.lock import RunInUse
from orca2_gen.run_directory.unlisted import (
    SET_ASIDE,
    keep_copy,
    set_aside_unlisted,
    unlisted_files,
)
from tests.run_directory.test_ledger import committed, new_ledger, receipt_of


def test_unlisted_files_are_moved_and_counted_and_listed_ones_stay(tmp_path: Path) -> None:
    [receipt] = committed(tmp_path, 1)
    late = receipt_of(tmp_path, "sums-000000", attempt=2)
    bodies = {entry.path: (tmp_path / entry.path).read_bytes() for entry in late.files}
    cut = tmp_path / "problems" / ".sums-000001.a1-0.arrow.tmp-host-1-ab"
    cut.write_bytes(b"half")
    ledger = read_ledger(tmp_path, writable=True)
    assert set(unlisted_files(ledger)) == {cut, *(tmp_path / path for path in bodies)}
    line = set_aside_unlisted(ledger)
    size = sum(len(body) for body in bodies.values())
    assert line.startswith(f"moved 2 unit files ({size:,} bytes) that no line of the ledger lists")
    assert unlisted_files(ledger) == []
    assert all((tmp_path / entry.path).exists() for entry in receipt.files)
    assert {path: (tmp_path / SET_ASIDE / path).read_bytes() for path in bodies} == bodies
    assert not cut.exists() and set_aside_unlisted(ledger) == ""


def test_nothing_that_was_set_aside_is_overwritten(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    path = tmp_path / "problems" / "sums-000000.a1-0.arrow"
    for body in (b"first", b"second", b"third"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        assert set_aside_unlisted(ledger).startswith("moved 1 unit file (")
    found = sorted((tmp_path / SET_ASIDE / "problems").iterdir())
    assert [path.read_bytes() for path in found] == [b"first", b"second", b"third"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_kept_copy_is_durable_with_all_folders_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"lines")
    synced = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def no_link(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "fsync", noted)
    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    keep_copy(tmp_path, path)
    copy = tmp_path / SET_ASIDE / "ledger.jsonl"
    assert copy.read_bytes() == b"lines"
    assert synced == [copy, copy.parent, tmp_path]


def test_nothing_is_moved_once_another_driver_has_the_run(tmp_path: Path) -> None:
    def fence() -> None:
        raise RunInUse("taken over")

    new_ledger(tmp_path)
    others = receipt_of(tmp_path, "sums-000000")
    with pytest.raises(RunInUse):
        set_aside_unlisted(read_ledger(tmp_path, writable=True, fence=fence))
    assert all((tmp_path / entry.path).exists() for entry in others.files)


def test_what_no_run_wrote_is_never_moved(tmp_path: Path) -> None:
    """A run directory may hold something else by one of our names."""
    mine = tmp_path / "examples" / "train.py"
    (tmp_path / "problems" / "folder").mkdir(parents=True)
    mine.parent.mkdir()
    mine.write_text("precious")
    set_aside_unlisted(read_ledger(tmp_path, writable=True))
    assert mine.read_text() == "precious"
