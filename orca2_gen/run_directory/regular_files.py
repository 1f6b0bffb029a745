"""Files that anyone may have written -> their bytes, after a look at type and size.

A FIFO never ends, `/dev/zero` never either, and a sparse file of 200 GB takes no room on a disk and
all of memory. So whatever is read as a whole is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_OTHER = "something else"


_NO_FILE = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO, errno.EINVAL)
"""Errors of opening that no regular file gives; ENXIO is a socket's."""


class UnusableFile(ValueError):
    """A path leads to something other than a regular file of the expected size."""


class DeniedFile(UnusableFile):
    """The system does not let us read a path now, whatever is there."""


class DamagedFile(ValueError):
    """A listed file is absent or is not what was written."""


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading.

    Raises:
        FileNotFoundError: nothing is there, and no link either.
        UnusableFile: it is not a regular file, or cannot be opened (DeniedFile: now); one line says
            why.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise UnusableFile(f"{path} is a link that leads to nothing") from None
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        is_denied = isinstance(error, OSError) and error.errno not in _NO_FILE
        kind_of_error = DeniedFile if is_denied else UnusableFile
        raise kind_of_error(f"{shown(path)} cannot be opened: {reason}") from None
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise UnusableFile(f"{path} is {_KINDS.get(kind, _OTHER)}; expected a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file that holds at most `most_bytes`.

    Raises:
        FileNotFoundError: nothing is there, and no link either.
        UnusableFile: it is larger, or see `open_regular`; no more than `most_bytes` are read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        body = file.read(most_bytes + 1) if size <= most_bytes else b""
    if size > most_bytes or len(body) > most_bytes:  # it may grow between the two
        raise UnusableFile(
            f"{path} has {max(size, len(body))} bytes; expected at most {most_bytes}"
        )
    return body


def kind_of(path: str) -> str:
    """What stands at a path that leads to no regular file: a directory, a FIFO, a device ..."""
    return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), _OTHER)


def shown(path: Path) -> str:
    """The path, cut if it is too long for a line."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]}... ({len(text)} characters)"
