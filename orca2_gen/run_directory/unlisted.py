"""Files of ours that no line of the ledger lists: a process that wrote them died or was too late.

They are moved, never removed: if the ledger is what is wrong, they are all that is left of the
work. Only temporary names are removed, which hold half a file at most.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from orca2_gen.run_directory.durable_files import sync_directory
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.stored_answers import FOLDER as STORED
from orca2_gen.run_directory.units import STAGES

SET_ASIDE = "set-aside"
_UNIT_FILE = re.compile(r".+\.a[0-9]+-[0-9a-f]+(\.refused)?\.arrow")
_TEMPORARY = re.compile(r"\..+\.(arrow|jsonl?|lock)\.tmp-.+")


def unlisted_files(ledger: Ledger) -> list[Path]:
    """Unit files that no line lists, and files under temporary names."""
    listed = {entry.path for receipt in ledger.units.values() for entry in receipt.files}
    unlisted = [
        path
        for path in unit_files(ledger.run_dir)
        if path.relative_to(ledger.run_dir).as_posix() not in listed
    ]
    return unlisted + list(_temporary_files(ledger.run_dir))


def unit_files(run_dir: Path) -> Iterator[Path]:
    """Files with the names of units' files, listed or not, by folder and name."""
    for folder in (*STAGES, "rejections"):
        for path in sorted((run_dir / folder).glob("*")):
            if _UNIT_FILE.fullmatch(path.name) and path.is_file():
                yield path


def _temporary_files(run_dir: Path) -> Iterator[Path]:
    for folder in (*STAGES, "rejections", "dataset", STORED, "."):
        for path in sorted((run_dir / folder).glob(".*")):
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                yield path


def set_aside_unlisted(ledger: Ledger) -> str:
    """Moves what `unlisted_files` finds out of the way and returns a line about it.

    Unit files go to RUN/set-aside/, under their stage, and their units are made again; temporary
    files are removed. The line is empty if there was no unit file.

    Raises:
        RunInUse: another driver has taken over the run directory, whose files are unlisted here.
    """
    assert ledger.writable
    ledger.fence()
    moved = num_bytes = 0
    for path in unlisted_files(ledger):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
            continue
        num_bytes += path.stat().st_size
        moved += 1
        set_aside(ledger.run_dir, path)
    if not moved:
        return ""
    return (
        f"moved {moved} unit file{'s' * (moved > 1)} ({num_bytes:,} bytes) that no line of the "
        f"ledger lists to {ledger.run_dir / SET_ASIDE}: their units are made again, so remove the "
        "directory once you miss nothing"
    )


def set_aside(run_dir: Path, path: Path) -> None:
    """Moves one file of the run directory into RUN/set-aside/, over no file that is there."""
    os.rename(path, _place_aside(run_dir, path))


def keep_copy(run_dir: Path, path: Path) -> None:
    """Puts a file of the run directory, which is about to be replaced, into RUN/set-aside/ too.

    It is durable there before this returns.
    """
    place = _place_aside(run_dir, path)
    try:
        os.link(path, place)
    except OSError:  # a file system without links
        shutil.copyfile(path, place)
    with open(place, "rb") as copy:
        os.fsync(copy.fileno())
    for folder in (place.parent, *place.parent.parents):
        sync_directory(folder)
        if folder == run_dir:
            break


def _place_aside(run_dir: Path, path: Path) -> Path:
    goal = run_dir / SET_ASIDE / path.relative_to(run_dir)
    goal.parent.mkdir(parents=True, exist_ok=True)
    free, number = goal, 1
    while free.exists() or free.is_symlink():
        number += 1
        free = goal.with_name(f"{goal.name}.{number}")
    return free
