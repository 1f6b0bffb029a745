"""Bytes -> a file that is whole for every reader, and that a loss of power leaves behind."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any


@dataclass(kw_only=True, slots=True)
class HashedWriter:
    """A file that is being written, with the size and SHA-256 of what it holds so far."""

    path: Path
    """The name that the file will have, for messages."""
    file: BufferedWriter
    num_bytes: int = 0
    hash: Any = field(default_factory=hashlib.sha256)

    @property
    def closed(self) -> bool:
        """Whether it takes no more bytes; Arrow asks before it writes."""
        return self.file.closed

    def write(self, part: bytes) -> int:
        """Writes and counts a part."""
        self.num_bytes += len(part)
        self.hash.update(part)
        with naming(self.path, self.num_bytes):
            return self.file.write(part)

    def flush(self) -> None:
        """Hands what is buffered to the system."""
        with naming(self.path, self.num_bytes):
            self.file.flush()


def write_bytes(path: Path, body: bytes) -> None:
    """Writes a file durably, in one step for readers."""
    with durable_file(path) as writer:
        writer.write(body)


@contextmanager
def durable_file(path: Path) -> Iterator[HashedWriter]:
    """A writer of the file, which is there, whole and durable, once the block has ended.

    The bytes go to a temporary name beside it; fsync, rename and fsync of the directory follow. An
    error leaves nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with naming(path, 0):
            file = open(temporary, "wb")  # noqa: SIM115 - closed below, before it is renamed
        try:
            writer = HashedWriter(path=path, file=file)
            yield writer
            writer.flush()
            with naming(path, writer.num_bytes):
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # of what a failed flush, which is told, left in the buffer
                file.close()
        with naming(path, writer.num_bytes):
            os.replace(temporary, path)
            sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path, num_bytes: int) -> Iterator[None]:
    """Adds file and size to the error of a failed write; the system's error names neither."""
    try:
        yield
    except OSError as error:
        text = f"{error.strerror or error} while writing {num_bytes} bytes"
        raise OSError(error.errno, text, str(path)) from error


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no reader takes for a file and no other process uses."""
    return path.with_name(
        f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )


def sync_directory(path: Path) -> None:
    """Makes a rename inside the directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
