"""The directory of an export: it is there whole or not at all, and never in place of foreign files.

    .OUT.tmp-HOST-PID-HEX    beside OUT while an export is being written

An export of ours that stands at OUT is replaced in one step by a new one that is whole. What a
killed export left is removed by the next one to the same OUT: a lock tells whether somebody is
still writing it. Where a file system has no locks, it stays.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orca2_gen.dataset.export_manifest import EXPORT, read_export
from orca2_gen.run_directory.arrow_files import DamagedFile, check_file
from orca2_gen.run_directory.claim import is_run
from orca2_gen.run_directory.durable_files import naming, sync_directory, temporary_name

_USERS_MISTAKES = (
    errno.EACCES,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
_EXCHANGE, _HERE = 2, -100
"""RENAME_EXCHANGE and AT_FDCWD of Linux."""


@contextmanager
def export_place(out: Path, source: Path) -> Iterator[Path]:
    """A new directory to write an export into; it takes OUT's place once the block has ended.

    Args:
        out: where the export is to be: nothing, an empty directory, or an export of ours.
        source: the dataset directory that is read.

    Raises:
        ValueError: something else is there, or nothing can be; it is as it was.
    """
    place = claimable(out, source)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(place)
        folder = temporary_name(place)
        folder.mkdir()
    except OSError as error:
        raise _refusal_of(error, out) from error
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems lock nothing; nobody can then
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
        with naming(place, 0):
            os.fsync(descriptor)
        _publish(folder, place, source)
    finally:
        # After an exchange it is the older export that lies there.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def claimable(out: Path, source: Path) -> Path:
    """The path without links, if an export may be there. Nothing is written.

    Raises:
        ValueError: it may not.
    """
    try:
        if out.is_symlink() and not out.exists():
            raise ValueError(f"{out} is a link that leads to nothing; remove it, or give another")
        place = out.resolve()
        for parent in (place, *place.parents):
            if parent == source.resolve() or is_run(parent):
                raise ValueError(
                    f"{place} lies inside {parent}, which is no place for an export; give a "
                    "directory beside it"
                )
        if place.exists():
            _check_ours(place)
    except (OSError, RuntimeError) as error:
        raise _refusal_of(error, out) from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise ValueError(f"{str(out)!a} holds a NUL character; give another directory") from None
    return place


def _check_ours(place: Path) -> None:
    """Checks that a directory is empty, or an export of ours as it was written."""
    if not place.is_dir():
        raise ValueError(f"{place} is not a directory; give a new or empty one")
    names = set(os.listdir(place))
    if not names:
        return
    remedy = "nothing was touched: give a directory that is empty, new, or an earlier export's"
    try:
        manifest = read_export(place)
        foreign = sorted(names - {EXPORT, *(entry.path for entry in manifest.listed)})
        if foreign:
            raise ValueError(f"{place} holds {ascii(foreign[0])[:80]} beside an export")
        for entry in manifest.listed:
            check_file(place, entry)
    except FileNotFoundError:
        first = ascii(min(names))[:80]
        raise ValueError(f"{place} holds {first} and is no export of ours; {remedy}") from None
    except DamagedFile as error:
        raise ValueError(f"{place} is no export as it was written: {error}; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None


def _publish(folder: Path, place: Path, source: Path) -> None:
    if place.exists():
        claimable(place, source)  # somebody may have written there in the meantime
    with naming(place, 0):
        if not place.exists() or not os.listdir(place):
            os.rename(folder, place)
        elif not _exchanged(folder, place):
            older = temporary_name(place)
            os.rename(place, older)
            try:
                os.rename(folder, place)
            except OSError:
                os.rename(older, place)
                raise
            os.rename(older, folder)
        sync_directory(place.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two directories have changed places in one step; some file systems cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code))


def _remove_leftovers(place: Path) -> None:
    """Removes what exports to this place left that nobody is writing any more."""
    name = re.compile(rf"\.{re.escape(place.name)}\.tmp-.+-[0-9]+-[0-9a-f]{{8}}")
    for path in place.parent.iterdir():
        if not name.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)


def _refusal_of(error: Exception, out: Path) -> Exception:
    """The error as one line for the user, if it is the path that is wrong."""
    shown = ascii(str(out)[:200])
    if isinstance(error, OSError) and error.errno in _USERS_MISTAKES:
        return ValueError(f"{shown} cannot be written: {error.strerror}; give another directory")
    if isinstance(error, RuntimeError):  # pathlib's, about links
        return ValueError(f"{shown}: its links lead in a circle; give another directory")
    return error
