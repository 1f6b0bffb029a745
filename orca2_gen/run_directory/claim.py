"""Whose directory is it: a run writes only into one that is empty, or that an earlier run began.

    RUN/.orca2-run       the mark: the first file that a run writes

Whatever else stands in a directory is somebody's data, and a run would remove and overwrite files
by their names.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from orca2_gen.run_directory.durable_files import sync_directory
from orca2_gen.run_directory.regular_files import open_regular, read_regular

MARK = ".orca2-run"
_TEXT = b'{"made_by": "orca2-gen", "holds": "a run"}\n'
_MOST_CONFIG_BYTES = 64 << 20
_MOST_LINE_BYTES = 16 << 20
_LINE_KEYS = {"stage", "stage_key", "unit", "files", "checksum"}

# A new file system holds it; a driver of an older version wrote its lock first.
_NOBODYS = ("lost+found", "driver.lock")
_USERS_MISTAKES = (
    errno.EACCES,
    errno.EEXIST,
    errno.EINVAL,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def claim_run_directory(run_dir: Path) -> Path:
    """The directory without links, which is ours from now on and carries the mark.

    Two drivers that claim it at once both get it; the lock is what decides between them.

    Raises:
        ValueError: it is or may be somebody's, or nothing can be written there. It is as it was.
    """
    found = claimable(run_dir)
    try:
        found.mkdir(parents=True, exist_ok=True)
        _write_mark(found)
        if not os.access(found, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refusal_of(error, found) from error
    return found


def claimable(run_dir: Path) -> Path:
    """The directory without links, if a run may begin or go on there. Nothing is written.

    Raises:
        ValueError: it is or may be somebody's, or no directory can be there.
    """
    try:
        found = _resolved(run_dir)
        for parent in found.parents:
            if is_run(parent):
                raise ValueError(
                    f"run_dir {found} lies inside the run {parent}, which writes there itself; "
                    "give a directory beside it"
                )
        if found in (Path("/"), _home()):
            what = "the root of the file system" if found == Path("/") else "your home directory"
            raise ValueError(
                f"run_dir {found} is {what}; a run needs a directory of its own, e.g. runs/one"
            )
        if not found.exists():
            return found
        names = os.listdir(found)
        foreign = sorted(set(names) - {*_NOBODYS, MARK} - set(_temporaries(names)))
        # A mark is looked for last: another driver may have begun after the names were read.
        if foreign and not is_run(found):
            raise ValueError(
                f"run_dir {found} holds {_some(foreign)}, which no run wrote; nothing was "
                "touched: give a directory that is empty, new, or an earlier run's"
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise _refusal_of(error, run_dir) from error
    return found


def no_run(directory: Path | str) -> ValueError:
    """The error of a directory in which no run has finished anything yet."""
    is_there = Path(directory).exists()
    found = "holds nothing that a run has finished" if is_there else "does not exist"
    return ValueError(f"{directory} {found}; give the directory of a run")


def is_run(directory: Path) -> bool:
    """Whether a run began in this directory, or a run of an older version, without mark."""
    try:
        return stat.S_ISREG(os.lstat(directory / MARK).st_mode)
    except OSError:
        return _has_config(directory / "config.json") or _has_commits(directory / "ledger.jsonl")


def _resolved(path: Path) -> Path:
    """The path without links; a link on it that leads to nothing is refused."""
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise ValueError(
                f"run_dir {path}: {place} is a link that leads to nothing; remove the link, or "
                "give another directory"
            )
    found = path.resolve()
    for place in (found, *found.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"run_dir {found}: {place} is not a directory; give another path")
    return found


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except (RuntimeError, OSError):
        return None


def _temporaries(names: Iterable[str]) -> list[str]:
    """Names of files that a driver of an older version was about to rename."""
    return [name for name in names if name.startswith((".driver.lock.tmp-", ".config.json.tmp-"))]


def _some(names: list[str]) -> str:
    shown = ", ".join(ascii(name)[:60] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _write_mark(directory: Path) -> None:
    try:
        descriptor = os.open(directory / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        if is_run(directory):
            return
        raise ValueError(
            f"run_dir {directory}: {MARK} in it is not a file, so no run made it; "
            "give another directory"
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(_TEXT)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def _has_config(path: Path) -> bool:
    """Whether this is the config.json of a run: model directories have a file of that name too."""
    try:
        body = json.loads(read_regular(path, _MOST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    stages = body.get("stages") if isinstance(body, dict) else None
    return isinstance(stages, dict) and "problems" in stages


def _has_commits(path: Path) -> bool:
    """Whether the first line of this file is a commit."""
    try:
        with open_regular(path) as file:
            line = json.loads(file.readline(_MOST_LINE_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(line, dict) and set(line) >= _LINE_KEYS


def _refusal_of(error: Exception, run_dir: Path) -> Exception:
    """The error as one line for the user, if it is the path that is wrong."""
    text = str(run_dir)
    shown = ascii(text[:200] + "...") if len(text) > 300 else text
    if isinstance(error, OSError) and error.errno in _USERS_MISTAKES:
        return ValueError(
            f"run_dir {shown} cannot be written: {error.strerror}; give another directory"
        )
    if isinstance(error, RuntimeError):  # pathlib's, about links
        return ValueError(f"run_dir {shown}: its links lead in a circle; give another directory")
    if isinstance(error, ValueError) and "null" in str(error):
        return ValueError(f"run_dir {text!a} holds a NUL character; give another directory")
    return error
