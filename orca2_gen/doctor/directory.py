"""The directory of a run -> findings: what a run does to its file system is tried there."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orca2_gen.doctor.findings import Finding, bad, good, odd

LEAST_FREE = 10 << 30
"""Bytes: a run of a million rows takes a few gigabytes, a state of training twelve for each billion
parameters."""
SLOW_SECONDS = 0.5
"""Seconds of a durable write of a few bytes, which a driver makes for each turn of its loop."""


def directory_findings(run_dir: Path) -> list[Finding]:
    """What was found where `run_dir` lies or would be made; all that is tried there is removed."""
    about = f"run_dir {run_dir}"
    try:
        place = next((each for each in (run_dir, *run_dir.parents) if each.exists()), Path("/"))
    except OSError as error:  # a folder on the way that is another user's
        return [bad(about, error.strerror or str(error), "give another run_dir, or its rights")]
    if not place.is_dir():
        return [bad(about, f"{place} is not a directory", "give another run_dir")]
    if not os.access(place, os.W_OK | os.X_OK):
        return [bad(about, f"{place} cannot be written", "give another run_dir, or its rights")]
    folder = place / f".orca2-doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
        return list(_tried(about, folder))
    except OSError as error:
        return [bad(about, f"{place}: {error.strerror or error}", "give another run_dir")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tried(about: str, folder: Path) -> Iterator[Finding]:
    first, second = folder / "a", folder / "b"
    started = time.monotonic()
    with open(first, "wb") as file:
        file.write(b"orca2")
        file.flush()
        os.fsync(file.fileno())
    seconds = time.monotonic() - started
    lacking = []
    try:
        os.link(first, second)
    except OSError as error:
        lacking.append(f"hard links ({error.strerror})")
        second.write_bytes(b"orca2")
    try:
        os.replace(first, second)
    except OSError as error:
        lacking.append(f"renames over a file ({error.strerror})")
    before = second.stat().st_mtime_ns
    with suppress(OSError):
        os.utime(second, ns=(before + 10**9, before + 10**9))
    if second.stat().st_mtime_ns == before:
        lacking.append("times of files")
    if lacking:
        yield bad(
            about,
            f"its file system lacks {', '.join(lacking)}, which the lock of a run needs",
            "put run_dir on a POSIX file system: a local disk, NFS, Lustre, CephFS",
        )
        return
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GB free, a durable write takes {1000 * seconds:.0f} ms"
    if free < LEAST_FREE:
        yield odd(about, found, "make room, or give a run_dir on another disk")
    elif seconds > SLOW_SECONDS:
        yield odd(about, found, "commits wait for the disk: a faster file system, or larger units")
    else:
        yield good(about, found)
