"""Paths -> the task files there, each with the format that reads it best."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.draft.columns import has_choices, suggested_columns
from orca2_gen.records import Problem
from orca2_gen.tasks.columns import Columns
from orca2_gen.tasks.formats import FORMATS, PLAIN, read_files, suffixes
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from orca2_gen.tasks.statements import BadRowError

LOOKED_AT = 200
"""Rows of a file that are read in each format."""
_SPLIT = re.compile(
    r"(?:^|[-_.])(train|training|test|testing|dev|val|valid|validation|eval)"
    r"(?:[-_.]\d+(?:-of-\d+)?)?$",
    re.IGNORECASE,
)
"""A split at the end of a name, perhaps with a part's number: `x_test`, `test-00000-of-00001`."""
_TRAINED_ON = ("train", "training")
_PACKED = (".gz",)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundTask:
    """A task file, and how it can be read."""

    name: str
    path: Path
    format: str
    """Empty if no format reads a row of it."""
    is_held_out: bool
    """Whether its name says that it is for evaluation."""
    num_problems: int
    num_rows: int
    """Rows that were looked at."""
    reason: str = ""
    """Why rows are refused, where some are."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """As of a task in a config: a guess, by which the rows can be read."""


def tasks_in(paths: Sequence[Path]) -> list[FoundTask]:
    """The task files among these paths, and right below those that are directories.

    Names are made different where several files have one.
    """
    found = [_found(file) for path in paths for file in _files(path)]
    taken: set[tuple[str, bool]] = set()
    named = []
    for task in found:
        name, number = task.name, 1
        while task.format and (name, task.is_held_out) in taken:
            number += 1
            name = f"{task.name}_{number}"
        if task.format:
            taken.add((name, task.is_held_out))
        named.append(dataclasses.replace(task, name=name))
    return named


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        # What is no task is a finding too, but for what nobody means to be one.
        yield from (each for each in sorted(path.iterdir()) if not each.name.startswith("."))
    else:
        yield path


def _suffix(path: Path) -> str:
    """The suffix that tells a file's kind, whether or not it is packed."""
    return path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix


def _found(path: Path) -> FoundTask:
    stem = path.name.removesuffix(path.suffix if path.suffix in _PACKED else "")
    stem = stem.removesuffix(_suffix(path))
    split = _SPLIT.search(stem)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", _SPLIT.sub("", stem)).lstrip("-.")[:100] or "task"
    is_held_out = split is not None and split[1].lower() not in _TRAINED_ON
    best, reason = (
        ("", 0, 0),
        "it is a directory" if path.is_dir() else "no format takes files with this name",
    )
    # What only one format reads is of that format; what plain rows have may be of any.
    for format in sorted(FORMATS, key=lambda each: (_reads_plain_rows(each), each not in PLAIN)):
        if path.is_dir() or _suffix(path) not in suffixes(format):
            continue
        problems, rows, why = _read(path, format)
        # A published format that takes plain rows reads fewer of their columns than our own.
        is_plain = format in PLAIN or not _reads_plain_rows(format)
        margin = 0 if is_plain else rows // 10
        if not best[0] or problems > best[1] + margin:
            best, reason = (format if problems else best[0], problems, rows), why
    columns: dict[str, str] = {}
    if not path.is_dir() and (not best[1] or _drops_choices(path, best[0])):
        best, reason, columns = _mapped(path, best, reason)
    format, num_problems, num_rows = best
    return FoundTask(
        name=name,
        path=path,
        format=format if num_problems else "",
        is_held_out=is_held_out,
        num_problems=num_problems,
        num_rows=num_rows,
        reason=(reason or "it holds no row") if not num_rows or num_problems < num_rows else "",
        columns=columns,
    )


_Read = tuple[str, int, int]
"""Format, problems and rows."""


def _drops_choices(path: Path, format: str) -> bool:
    """Whether a file has choices that a format does not read: its rows would ask something else."""
    if format in PLAIN or not any(has_choices(_names_in(path, each)) for each in PLAIN):
        return False
    source = TaskSource(name="task", format=format, path=path, split="train")
    rows = itertools.islice(read_task(source).rows, LOOKED_AT)
    return not any(isinstance(row, Problem) and row.choices for row in rows)


def _mapped(path: Path, best: _Read, reason: str) -> tuple[_Read, str, dict[str, str]]:
    """What is read of a file whose columns are mapped as their names suggest; else as before."""
    taken: dict[str, str] = {}
    for format in PLAIN:
        if _suffix(path) not in suffixes(format):
            continue
        for columns in suggested_columns(_names_in(path, format)):
            problems, rows, why = _read(path, format, columns)
            if problems > best[1] or (problems == best[1] and best[0] not in PLAIN):
                best, reason, taken = (format, problems, rows), why, columns
    return best, reason, taken


def _names_in(path: Path, format: str) -> list[str]:
    """The names of the columns of a file's first row that has any."""
    try:
        for found in itertools.islice(read_files(format, path, {}), LOOKED_AT):
            if isinstance(found.row, Mapping):
                return list(map(str, found.row))
    except (ValueError, OSError):  # the reading without a mapping says what is wrong
        pass
    return []


@functools.cache
def _reads_plain_rows(format: str) -> bool:
    """Whether a row of a question and an answer alone is one of the format."""
    try:
        FORMATS[format].state({"question": "Which?", "answer": "This"}, None)
    except (BadRowError, LookupError, TypeError, ValueError):
        return False
    return True


def _read(path: Path, format: str, columns: Columns | None = None) -> tuple[int, int, str]:
    """Problems and rows among the first of a file, and why one of them is none."""
    source = TaskSource(name="task", format=format, path=path, split="train", columns=columns or {})
    try:
        rows = list(itertools.islice(read_task(source).rows, LOOKED_AT))
    except (ValueError, OSError) as error:
        return 0, 0, " ".join(str(error).split())[:200]
    refused = [row for row in rows if not isinstance(row, Problem)]
    why = f"{refused[0].reason}: {refused[0].detail}"[:200] if refused else ""
    return len(rows) - len(refused), len(rows), why
