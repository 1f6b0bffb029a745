"""The published formats: how the files of each become rows, and each row a Statement."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from orca2_gen.records import AnswerType
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.tasks.columnar import read_columnar
from orca2_gen.tasks.columns import Columns, wanted_columns
from orca2_gen.tasks.files import TaskFile, task_digest, task_files
from orca2_gen.tasks.formats.agieval import read_agieval_row
from orca2_gen.tasks.formats.aqua import read_aqua_row
from orca2_gen.tasks.formats.bbh import read_bbh_row, split_bbh
from orca2_gen.tasks.formats.crass import read_crass_row, read_semicolons
from orca2_gen.tasks.formats.deepmind_mathematics import read_deepmind_mathematics_row, read_pairs
from orca2_gen.tasks.formats.drop import read_drop_row, split_drop
from orca2_gen.tasks.formats.flan import read_flan_row
from orca2_gen.tasks.formats.gsm8k import read_gsm8k_row
from orca2_gen.tasks.formats.hendrycks_math import read_math_row, split_math
from orca2_gen.tasks.formats.jsonl import read_jsonl_row
from orca2_gen.tasks.formats.natural_instructions import (
    read_natural_instructions_row,
    split_natural_instructions,
)
from orca2_gen.tasks.formats.race import read_race_row, split_race
from orca2_gen.tasks.json_arrays import is_json_array, read_json_array
from orca2_gen.tasks.rows import DocumentSplit, SourceRow, read_document, read_lines
from orca2_gen.tasks.statements import BadRowError, Row, Statement

EVERY: tuple[AnswerType, ...] = get_args(AnswerType)
TEXT: tuple[AnswerType, ...] = tuple(kind for kind in EVERY if kind != "multiple_choice")
CLOSED: tuple[AnswerType, ...] = tuple(kind for kind in EVERY if kind != "open")
FORMULA: tuple[AnswerType, ...] = ("mathematics", "numeric", "exact")


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A published format."""

    state: Callable[[Row, AnswerType | None], Statement]
    """A pure function of one row."""
    read: Callable[[TaskFile], Iterator[SourceRow]] = read_lines
    """Reader of its own files; any .jsonl, .parquet or .arrow file, and any JSON array of
    objects, holds one problem per row."""
    suffix: str = ".jsonl"
    """Suffix of its own files in a directory."""
    answer_types: tuple[AnswerType, ...] = EVERY
    """Answer types that a task may ask of its rows."""
    names_matter: bool = False
    """Whether category or task come from a file's name."""


def _documents(split: DocumentSplit) -> Callable[[TaskFile], Iterator[SourceRow]]:
    return functools.partial(read_document, split=split)


_CHOICE: tuple[AnswerType, ...] = ("multiple_choice",)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jsonl": Format(state=read_jsonl_row),
        "parquet": Format(state=read_jsonl_row, suffix=".parquet"),
        "datasets": Format(state=read_jsonl_row, suffix=".arrow"),
        "gsm8k": Format(state=read_gsm8k_row, answer_types=FORMULA),
        "flan": Format(state=read_flan_row),
        "natural_instructions": Format(
            state=read_natural_instructions_row,
            read=_documents(split_natural_instructions),
            suffix=".json",
            answer_types=TEXT,
            names_matter=True,
        ),
        "aqua": Format(state=read_aqua_row, answer_types=_CHOICE),
        "agieval": Format(state=read_agieval_row, answer_types=(*_CHOICE, *FORMULA)),
        "math": Format(
            state=read_math_row, read=_documents(split_math), suffix=".json", answer_types=FORMULA
        ),
        "bbh": Format(
            state=read_bbh_row, read=_documents(split_bbh), suffix=".json", answer_types=CLOSED
        ),
        "deepmind_mathematics": Format(
            state=read_deepmind_mathematics_row,
            read=read_pairs,
            suffix=".txt",
            answer_types=(*FORMULA, "list", "yes_no"),
            names_matter=True,
        ),
        "drop": Format(
            state=read_drop_row,
            read=_documents(split_drop),
            suffix=".json",
            answer_types=tuple(kind for kind in TEXT if kind in CLOSED),
        ),
        "race": Format(
            state=read_race_row, read=_documents(split_race), suffix=".txt", answer_types=_CHOICE
        ),
        "crass": Format(
            state=read_crass_row, read=read_semicolons, suffix=".csv", answer_types=_CHOICE
        ),
    }
)

PLAIN = ("jsonl", "parquet", "datasets")
"""Formats of plain rows, whose columns a task may map."""


def suffixes(format: str) -> Sequence[str]:
    """The suffixes of the files that a directory in the format may hold."""
    own = FORMATS[format].suffix
    return (own,) if format in PLAIN else (own, *{".jsonl", ".parquet"} - {own})


def format_digest(format: str, path: Path) -> str:
    """The digest of everything that the rows of the path depend on.

    The name of a lone file counts only if the format reads it.
    """
    if path.is_dir() or FORMATS[format].names_matter:
        return task_digest(path, suffixes(format))
    return file_digest(path)


def read_files(format: str, path: Path, columns: Columns) -> Iterator[SourceRow]:
    """Every row of the path's files, file by file, then a bad row for each file that has none.

    No row at all means that none of the files has one.

    Raises:
        ValueError: at once, if the format cannot be read from the path.
    """
    files = task_files(path, suffixes(format))
    for file in files:
        if format == "jsonl" and file.suffix in (".parquet", ".arrow"):
            other = "parquet" if file.suffix == ".parquet" else "datasets"
            raise ValueError(f"task file {file.path} is not jsonl; set format to {other!r}")
    return _rows_of(format, files, columns)


def _rows_of(format: str, files: Sequence[TaskFile], columns: Columns) -> Iterator[SourceRow]:
    empty = []
    for file in files:
        is_empty = True
        for row in _read_file(format, file, columns):
            is_empty = False
            yield row
        if is_empty:
            empty.append(file)
    # They come last: a unit of a run that an earlier version began must hold the same rows.
    for file in empty if len(empty) < len(files) else ():
        error = BadRowError("empty_file", "the file holds no rows; fetch it again or remove it")
        yield SourceRow(place=file.shown, key=file.key(None), row=error, is_about_file=True)


def is_columnar(format: str, file: TaskFile) -> bool:
    """Whether pyarrow reads the file."""
    return format in ("parquet", "datasets") or file.suffix in (".parquet", ".arrow")


def reads_lines(format: str, file: TaskFile) -> bool:
    """Whether each line of the file is JSON, unless the whole file is an array."""
    is_lines = file.suffix == ".jsonl" or FORMATS[format].read is read_lines
    return is_lines and not is_columnar(format, file)


def _read_file(format: str, file: TaskFile, columns: Columns) -> Iterator[SourceRow]:
    if is_columnar(format, file):
        return read_columnar(file, wanted_columns(columns))
    if is_json_array(file):
        return read_json_array(file)
    if file.suffix == ".jsonl":
        return read_lines(file)
    return FORMATS[format].read(file)
