from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from orca2_gen.doctor.directory import directory_findings

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))
    monkeypatch.setattr("orca2_gen.doctor.directory.SLOW_SECONDS", 60.0)


@pytest.mark.parametrize("below", ["", "runs/one", "a/b/c/d"])
def test_a_directory_is_tried_where_it_would_be_made_and_nothing_is_left(
    tmp_path: Path, below: str
) -> None:
    [finding] = directory_findings(tmp_path / below)
    assert finding.level == "good" and "1024.0 GB free" in finding.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "lack"), [("link", "hard links"), ("replace", "renames over")])
def test_a_file_system_without_what_the_lock_needs_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lack: str
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, name, refused)
    [finding] = directory_findings(tmp_path)
    assert finding.level == "bad" and lack in finding.found and "POSIX" in finding.remedy
    assert list(tmp_path.iterdir()) == []


def test_little_room_is_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 30))
    [finding] = directory_findings(tmp_path)
    assert finding.level == "odd" and "1.0 GB free" in finding.found


def test_a_slow_disk_is_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca2_gen.doctor.directory.SLOW_SECONDS", 0.0)
    [finding] = directory_findings(tmp_path)
    assert finding.level == "odd" and "commits wait" in finding.remedy


def test_a_file_in_its_place_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [finding] = directory_findings(tmp_path / "file")
    assert finding.level == "bad" and "is not a directory" in finding.found


def test_a_full_or_read_only_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    [finding] = directory_findings(tmp_path)
    assert finding.level == "bad" and "No space left on device" in finding.found
