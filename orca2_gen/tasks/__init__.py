"""Published task files -> Problems: one reader per format, one Problem or Rejection per line.

A reader is a pure function of one row; `read_task` does what all formats share: lines, identity,
duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from orca2_gen.records import AnswerType, Problem, Rejection
from orca2_gen.tasks.gsm8k import read_gsm8k_row
from orca2_gen.tasks.jsonl import read_jsonl_row
from orca2_gen.tasks.rows import BadRowError, Row, Statement, open_rows, read_rows, reject

READER_VERSION = 1
"""Raise it with every change that can change a Problem: it is part of the stage keys."""

READERS: Mapping[str, Callable[[Row, AnswerType | None], Statement]] = MappingProxyType(
    {"gsm8k": read_gsm8k_row, "jsonl": read_jsonl_row}
)

# A task's name becomes part of problem ids and of file names.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def read_task(
    path: Path, *, name: str, format: str, split: str, answer_type: AnswerType | None
) -> Iterator[Problem | Rejection]:
    """Returns one Problem or Rejection per non-blank line, in file order, read as it is asked for.

    A problem's id is `name/split/own`, where own is the row's id (see `rows.read_id`) or its
    0-based line index. Held in memory: one line, and a hash and a line number for every id.
    What concerns the whole file (missing, not gzip, unknown format) is a ValueError at once.
    `answer_type=None` leaves it to the format.
    """
    if format not in READERS:
        raise ValueError(
            f"task {name!r}: unknown format {format!r}; expected one of {', '.join(READERS)}"
        )
    for word, value in (("name", name), ("split", split)):
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"task {word} {value!r}: expected at most 100 letters, digits, '_', '-' and '.', "
                "the first no '-' or '.'; rename it"
            )
    open_rows(path).close()
    return _read_problems(path, f"{name}/{split}", name, READERS[format], answer_type)


def _read_problems(
    path: Path,
    prefix: str,
    task: str,
    read_row: Callable[[Row, AnswerType | None], Statement],
    answer_type: AnswerType | None,
) -> Iterator[Problem | Rejection]:
    line_of_id: dict[bytes, int] = {}
    stream: BinaryIO
    with open_rows(path) as stream:
        for found in read_rows(stream, path.name):
            if isinstance(found, Rejection):
                yield found
                continue
            line_number, row = found
            try:
                statement = read_row(row, answer_type)
            except BadRowError as error:
                yield reject(path.name, line_number, error.reason, error.detail)
                continue
            own = str(line_number - 1) if statement.source_id is None else statement.source_id
            first_line = line_of_id.setdefault(_hash_id(own), line_number)
            if first_line != line_number:
                detail = f"the id {own} stands on line {first_line} already; give each row its own"
                yield reject(path.name, line_number, "duplicate_id", detail)
                continue
            yield Problem(
                problem_id=f"{prefix}/{own}",
                task=task,
                question=statement.question,
                target=statement.target,
                answer_type=statement.answer_type,
                choices=statement.choices,
                category=statement.category,
            )


def _hash_id(own: str) -> bytes:
    return blake2b(own.encode("ascii"), digest_size=12).digest()
