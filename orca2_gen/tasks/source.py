"""A task as its readers take it: name, format, files, columns, samples."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.mistakes.spelling import hint
from orca2_gen.records import AnswerType
from orca2_gen.tasks.columns import Columns, check_columns
from orca2_gen.tasks.formats import FORMATS, PLAIN

# A task's name becomes part of problem ids and of file names.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSource:
    """A task, and the files and rows that it is made of."""

    name: str
    format: str
    path: Path
    split: str
    answer_type: AnswerType | None = None
    """None leaves it to the format."""
    columns: Columns = field(default_factory=dict)
    """Field of a plain row -> its column or columns in these files."""
    rows_per_task: int | None = None
    """Rows in a sample; in a mixture, of every task in it."""
    rows_per_category: int | None = None
    """Rows in a sample of every category."""
    sample_seed: int = 0
    few_shot: tuple[int, int] | None = None
    """The least and the most examples before each question; None is zero-shot."""

    @property
    def prefix(self) -> str:
        return f"{self.name}/{self.split}"

    @property
    def is_sampled(self) -> bool:
        return self.rows_per_task is not None or self.rows_per_category is not None


def check_source(source: TaskSource) -> None:
    """Checks that a task can be read as its source says.

    Raises:
        ValueError: one line that names the key, for whoever says which task it is.
    """
    if source.columns:
        check_columns(source.columns)
    if source.format not in FORMATS:
        raise ValueError(f"unknown format {source.format[:100]!r}; {hint(source.format, FORMATS)}")
    for word, value in (("name", source.name), ("split", source.split)):
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"task {word} {value!r}: expected at most 100 letters, digits, '_', '-' and '.', "
                "the first not '-' or '.'; rename it"
            )
    known = FORMATS[source.format].answer_types
    if source.answer_type is not None and source.answer_type not in known:
        raise ValueError(
            f"answer_type is {source.answer_type!r}, which rows of format {source.format!r} cannot "
            f"have; set it to {' or '.join(known)}, or leave it out"
        )
    if source.columns and source.format not in PLAIN:
        raise ValueError(
            f"columns are for the formats {', '.join(PLAIN)}; format {source.format!r} knows its "
            "own, so remove the key"
        )
