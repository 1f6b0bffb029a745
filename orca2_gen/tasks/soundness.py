"""A look at a task's files before anything is made from them: whole, readable and not empty.

A file that is cut off or empty would make a smaller dataset and no error. The look costs one
decompression of every .gz file, several files at a time, and little more than the first bytes of
any other.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from orca2_gen.tasks.choice_labels import split_labels
from orca2_gen.tasks.columnar import check_ends
from orca2_gen.tasks.columns import map_columns, missing_columns
from orca2_gen.tasks.files import (
    GZIP_FAULTS,
    TaskFile,
    gzip_fault,
    open_file,
    task_files,
    unread_files,
)
from orca2_gen.tasks.formats import is_columnar, read_files, reads_lines, suffixes
from orca2_gen.tasks.formats.labelled_choices import INDEX
from orca2_gen.tasks.json_arrays import is_json_array, read_json_array
from orca2_gen.tasks.source import TaskSource, check_source
from orca2_gen.tasks.statements import BadRowError, Row, fields_of

_BLOCK_BYTES = 1 << 20
_START_BYTES = 4_096
_COUNTED_ROWS = 2_000
"""Rows that are looked at for answers that count from 1; 0 is among the first few in most files."""
_SHOWN = 5
"""Names in a line that are shown."""
_ARCHIVES = {
    b"\x1f\x8b": "gzip data in a file not named .gz, or gzip data twice; rename or decompress it",
    b"\x28\xb5\x2f\xfd": "zstd data; decompress it, or compress it with gzip",
    b"\xfd7zXZ": "xz data; decompress it, or compress it with gzip",
    b"BZh": "bzip2 data; decompress it, or compress it with gzip",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"PAR1": "Parquet data; set format to 'parquet' and name it .parquet",
    b"ARROW1": "Arrow data; set format to 'datasets' and give the directory",
}
"""First bytes -> what a file is that no reader of text reads, and what to do."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SHARD = re.compile(r"(.*?)-(\d{5})-of-(\d{5})\b.*")


def check_sound(source: TaskSource) -> None:
    """Checks that a task's files are whole and hold a row.

    Raises:
        ValueError: one line that names the file and says what to do.
    """
    check_source(source)
    files = task_files(source.path, suffixes(source.format))
    if source.format == "datasets":
        for line in missing_shards([file.name for file in files]):
            raise ValueError(f"task directory {source.path}: {line}; save the data set again")
    # zlib works outside Python's lock, so a large mixture in many files takes many cores.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(functools.partial(_check_file, source.format), files):
            pass
    if next(read_files(source.format, source.path, source.columns), None) is None:
        raise no_rows(source)
    _check_columns_exist(source)
    if {"answer_index", "choices"} <= set(source.columns):
        _check_counts_from_0(source)


def _check_columns_exist(source: TaskSource) -> None:
    """Checks that every mapped column is in some row: a misspelt one is not a null."""
    lacked: set[tuple[str, str]] | None = None
    first: Row = {}
    for found in read_files(source.format, source.path, source.columns) if source.columns else ():
        if isinstance(found.row, BadRowError):
            continue
        first = first or found.row
        missing = [
            (name, column)
            for name, column in missing_columns(found.row, source.columns)
            # `category = "category"` says no more than a plain row, which may lack it.
            if name != column or name not in ("id", "category", "sub_category")
        ]
        lacked = set(missing) if lacked is None else lacked & set(missing)
        if not lacked:
            return
    for name, column in sorted(lacked or ()):
        raise ValueError(
            f"task {source.name!r}: columns.{name} names {column!a}, which no row of {source.path} "
            f"has; {fields_of(first)}; correct the task's columns"
        )


def _check_counts_from_0(source: TaskSource) -> None:
    """Checks that `answer_index` does not count from 1, which would make most golds wrong."""
    found = read_files(source.format, source.path, source.columns)
    last = ""
    for row in itertools.islice(found, _COUNTED_ROWS):
        if isinstance(row.row, BadRowError):
            continue
        plain = map_columns(row.row, source.columns)
        texts, _ = split_labels(plain["choices"])
        index = INDEX.fullmatch(str(plain["answer_index"]))
        if index is not None and int(index[1]) == 0:
            return
        if index is not None and isinstance(texts, list) and int(index[1]) == len(texts):
            last = last or row.place
    if last:
        raise ValueError(
            f"task {source.name!r}: columns.answer_index counts from 0, but in {source.path} 0 is "
            f"no row's and the number of choices is one's (at {last}); map the column to "
            "answer_number, which counts from 1"
        )


def no_rows(source: TaskSource) -> ValueError:
    """The error of a task that would read nothing."""
    found = "no file in it holds a row" if source.path.is_dir() else "it holds no rows"
    return ValueError(
        f"task {source.name!r}: {source.path}: {found}; fetch it again, or take the task out of "
        "the config"
    )


def missing_shards(names: Sequence[str]) -> list[str]:
    """A line for every set of numbered shards (`x-00001-of-00003.arrow`) that is not complete."""
    found: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if shard := _SHARD.fullmatch(name):
            found.setdefault((shard[1], int(shard[3])), set()).add(int(shard[2]))
    return [
        f"it holds {len(indices)} of the {total} shards of {prefix!a}"
        for (prefix, total), indices in sorted(found.items())
        if len(indices) < total
    ]


def _check_file(format: str, file: TaskFile) -> None:
    is_rows = is_columnar(format, file)
    with open_file(file) as stream:  # a FIFO is refused here; Arrow would wait for it
        try:
            start = b"" if is_rows else stream.read(8)
            while file.is_gzip and not is_rows and stream.read(_BLOCK_BYTES):
                pass
        except GZIP_FAULTS as error:
            raise gzip_fault(file, error, "") from None
    if is_rows:
        check_ends(file)
    elif is_json_array(file):
        for _ in read_json_array(file):  # an array that is cut shows it only at its end
            pass
    elif reads_lines(format, file):
        _check_lines(file)
    for magic, found in _ARCHIVES.items():
        if start.startswith(magic):
            raise ValueError(f"task file {file.path} holds {found}")
    if start.startswith(_UTF_16) or b"\0" in start[:2]:
        raise ValueError(
            f"task file {file.path}: expected UTF-8 text, found UTF-16 or no text at all; save it "
            "as UTF-8"
        )


def _check_lines(file: TaskFile) -> None:
    """Refuses JSON that is spread over lines, each of which would be a rejection."""
    with open_file(file) as stream:
        start = stream.read(_START_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.partition(b"\n")[0].strip() in (b"{", b"["):  # `{}` and `[]` are bad rows
        raise ValueError(
            f"task file {file.path}: JSON over several lines; expected one object per line, or an "
            "array of objects: `jq -c` writes them so"
        )


def notes_on(source: TaskSource) -> list[str]:
    """Lines for people about what lies in a task's directory and is not read."""
    endings = suffixes(source.format)
    unread = unread_files(source.path, endings)
    lines = []
    if unread:
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        shown = ", ".join(name if name.isprintable() else ascii(name) for name in unread[:_SHOWN])
        lines.append(
            f"{source.name}: {len(unread)} of the files in {source.path} are not read, since the "
            f"format takes *{', *'.join(endings)}: {shown}{more}"
        )
    if source.path.is_dir():
        names = [file.name for file in task_files(source.path, endings)]
        lines += [f"{source.name}: {source.path}: {line}" for line in missing_shards(names)]
    return lines
