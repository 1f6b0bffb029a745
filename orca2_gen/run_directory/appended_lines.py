"""Lines that several processes append to one file, each whole on its own line."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def append_line(path: Path, line: str) -> None:
    """Appends a line in one write, so that lines of other processes stay whole.

    A line that a kill or a full disk has cut short gets an end first; nothing is taken away, since
    another process may be writing just now. Where one is, an empty line may come between.

    Args:
        path: file, which is made if it is absent; no link is followed, and no pipe waited for.
        line: text without a line break.

    Raises:
        OSError: it cannot be written, or is no regular file.
    """
    assert "\n" not in line
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        is_short = status.st_size > 0 and os.pread(descriptor, 1, status.st_size - 1) != b"\n"
        body = ("\n" * is_short + line + "\n").encode()
        if (written := os.write(descriptor, body)) < len(body):
            raise OSError(f"{path}: {written} of {len(body)} bytes were written")
    finally:
        os.close(descriptor)
