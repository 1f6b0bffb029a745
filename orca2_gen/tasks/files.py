"""A task's path -> the files it names, in a fixed order, opened as bytes, with one digest.

A path is a file, a directory of files in one format (a tree, or shards), or a directory that
`datasets.save_to_disk` wrote. Names come from the directory itself and never from the contents of a
file, except the shards that a `datasets` directory lists: those must be plain names of its files.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote_from_bytes

from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular

MAX_FILES = 200_000
"""Files in one directory: RACE, the largest published tree, has 28,000."""
MAX_LIST_BYTES = 10_000_000

_BESIDE_SHARDS = re.compile(r"state\.json|dataset_info\.json|manifest\.json|README\.md|cache-.*")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFile:
    """One file of a task."""

    path: Path
    name: str
    """Path below the task's directory, with forward slashes; the file's own name if it is alone."""
    is_alone: bool

    @property
    def shown(self) -> str:
        """The name for people and for places: unprintable characters are escaped."""
        return self.name if self.name.isprintable() else ascii(self.name)

    @property
    def stem(self) -> str:
        """The last part of the name without suffixes: `task001_x` of `tasks/task001_x.json.gz`."""
        return self.shown.rpartition("/")[2].split(".")[0]

    @property
    def is_gzip(self) -> bool:
        return self.name.lower().endswith(".gz")

    @property
    def suffix(self) -> str:
        """The suffix before any `.gz`, in lower case."""
        return Path(self.name.lower().removesuffix(".gz")).suffix

    def key(self, index: int | None) -> str:
        """The key of a row without an id: its index, after the file's name if there are several.

        An index of None is the only row of a one-row file.
        """
        if self.is_alone:
            return str(index or 0)
        word = quote_from_bytes(os.fsencode(self.name), safe="")
        return word if index is None else f"{word}-{index}"


def task_files(path: Path, suffixes: Sequence[str]) -> list[TaskFile]:
    """The file itself, or the directory's files with these suffixes by relative path.

    Hidden files and linked directories are skipped; linked files are read.
    """
    try:
        is_directory, is_file, is_there = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a name that is too long for any file system
        raise ValueError(
            f"task file {str(path)[:200]}...: {error.strerror}; correct the path"
        ) from None
    if not is_directory:
        if not is_file:
            found = "neither" if is_there else "nothing there"
            raise ValueError(
                f"task file {path}: expected a readable file or directory, found {found}; "
                "correct the path"
            )
        return [TaskFile(path=path, name=path.name, is_alone=True)]
    if (path / "dataset_dict.json").exists():
        raise ValueError(
            f"task directory {path} holds several splits (dataset_dict.json); give the directory "
            "of one of them"
        )
    names = _dataset_shards(path) or _names_below(path, suffixes)[0]
    if not names:
        raise ValueError(
            f"task directory {path}: expected files named *{', *'.join(suffixes)}, found none; "
            "correct the path or the format"
        )
    return [TaskFile(path=path / name, name=name, is_alone=False) for name in sorted(names)]


def unread_files(path: Path, suffixes: Sequence[str]) -> list[str]:
    """What lies in a task's directory and is not read: other names, and linked directories.

    Hidden files are left out, and so is what `datasets` writes beside its shards.
    """
    if not path.is_dir():
        return []
    shards = _dataset_shards(path)
    wanted, others = _names_below(path, suffixes)
    if shards:
        others += [name for name in wanted if name not in shards]
        others = [name for name in others if not _BESIDE_SHARDS.fullmatch(name)]
    return sorted(others)


def _names_below(path: Path, suffixes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names that end in one of the suffixes, and all others."""
    endings = tuple(suffixes) + tuple(f"{suffix}.gz" for suffix in suffixes)
    names: list[str] = []
    others: list[str] = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(path)
        others += [f"{below / name}/" for name in folders if Path(folder, name).is_symlink()]
        for name in files:
            if not name.startswith("."):
                kept = names if name.lower().endswith(endings) else others
                kept.append((below / name).as_posix())
        if len(names) + len(others) > MAX_FILES:
            raise ValueError(
                f"task directory {path}: more than {MAX_FILES} files; give one of its directories"
            )
    return names, others


def _dataset_shards(path: Path) -> list[str]:
    """The shards that a `datasets` directory lists; other files in it are caches."""
    listing = path / "state.json"
    if not listing.is_file():
        return []
    try:
        with listing.open("rb") as stream:
            listed = json.loads(stream.read(MAX_LIST_BYTES))["_data_files"]
        names = [entry["filename"] for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"task directory {path}: state.json lists no _data_files; save the data set again"
        ) from None
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or not (path / name).is_file():
            raise ValueError(
                f"task directory {path}: state.json lists {ascii(name)[:100]}, which is not a file "
                "in this directory; save the data set again"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"task directory {path}: state.json lists a file twice; save it again")
    return names


def task_digest(path: Path, suffixes: Sequence[str]) -> str:
    """The digest of everything that reading the path depends on: bytes, names, order."""
    found = [[file.name, file_digest(file.path)] for file in task_files(path, suffixes)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def open_file(file: TaskFile) -> BinaryIO:
    """The file, opened as bytes; one whose name ends in .gz is decompressed as it is read.

    Raises:
        ValueError: it cannot be opened, is no regular file, or is not the gzip data that its name
            promises.
    """
    path = file.path
    try:
        stream = open_regular(path)
    except FileNotFoundError:
        raise ValueError(f"task file {path}: it has gone; restore it") from None
    except UnusableFile as error:
        raise ValueError(f"task file {error}; correct the path or its permissions") from None
    if not file.is_gzip:
        return stream
    with stream:
        start = stream.read(len(_GZIP_MAGIC))
    if start != _GZIP_MAGIC:
        if _GZIP_MAGIC.startswith(start):  # gzip would read 0 bytes as an empty file
            raise gzip_fault(file, EOFError(), "")
        raise ValueError(f"task file {path}: named .gz but not gzip data; rename it or compress it")
    return cast(BinaryIO, gzip.open(path, "rb"))


GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)
"""Errors of reading gzip data that are cut off or damaged."""


def gzip_fault(file: TaskFile, error: Exception, where: str) -> ValueError:
    """The error of a task whose gzip file is not whole: its last rows would be missing unseen."""
    if isinstance(error, EOFError):
        found = f"ends early{where}: it was cut off"
    elif str(error).startswith("Not a gzipped file"):  # a member was whole, the next is none
        found = f"is followed by other bytes{where}"
    else:
        found = f"is damaged{where}"
    return ValueError(f"task file {file.path}: the gzip data {found}; fetch the file again")
