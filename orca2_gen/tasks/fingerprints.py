"""A problem -> the hashes that tell whether it is another's copy, in Arrow files of many problems.

Two problems are one only if their numbers, their choices and their gold answers agree: `terms` is
a hash of these three. All texts are compared in their plain form (normal_form.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from orca2_gen.records import Problem
from orca2_gen.tasks.normal_form import is_number, plain_choices, plain_golds, tokens
from orca2_gen.tasks.source import TaskSource
from orca2_gen.tasks.stated_rows import stated_problem, stated_rows
from orca2_gen.tasks.statements import Statement

NAME_BIT = 1 << 31
"""Set in the hash of a word that is written like a name."""
A_NUMBER, A_PRONOUN = 0, 1
"""Stand for every number and for every pronoun that changes with a name."""
_PRONOUNS = frozenset(
    ("he", "him", "his", "himself", "she", "her", "hers", "herself", "they", "them", "their")
)
ROWS_PER_BATCH = 4096
_MOST_NAMES = 0.6
"""Share of words with a capital above which the text says nothing about names."""

SCHEMA = pa.schema(
    [
        ("problem_id", pa.large_string()),
        ("ordinal", pa.int64()),
        ("copy", pa.uint64()),
        ("held", pa.list_(pa.uint64())),
        ("terms", pa.uint64()),
        ("words", pa.list_(pa.uint32())),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """The hashes of one problem."""

    problem_id: str
    ordinal: int
    """Place among its task's rows, in reading order."""
    copy: int
    """Hash of question, choices and all gold answers."""
    held: tuple[int, ...]
    """For each gold answer, a hash of question, choices and that answer."""
    terms: int
    """Hash of the numbers in the question, the choices and all gold answers."""
    words: tuple[int, ...]
    """Hash of each word of the question in order, A_NUMBER and A_PRONOUN among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One of `of` equal shares of a task's rows, in blocks of consecutive rows."""

    index: int = 0
    of: int = 1

    def holds(self, ordinal: int) -> bool:
        """Whether the row at this place belongs to the share."""
        return ordinal // ROWS_PER_BATCH % self.of == self.index


def fingerprint(problem: Problem, ordinal: int) -> Fingerprint:
    """The Fingerprint of a problem."""
    found = tokens(problem.question)
    question = " ".join(found).casefold()
    choices = "\n".join(plain_choices(problem))
    golds = plain_golds(problem)
    numbers = " ".join(filter(is_number, found))
    return Fingerprint(
        problem_id=problem.problem_id,
        ordinal=ordinal,
        copy=_hash(question, choices, *golds),
        held=tuple(_hash(question, choices, gold) for gold in golds),
        terms=_hash(numbers, choices, *golds),
        words=_words(found),
    )


def _words(found: Iterable[str]) -> tuple[int, ...]:
    hashes = [word_hash(each) for each in found if is_number(each) or each[0].isalpha()]
    num_names = sum(each >= NAME_BIT for each in hashes)
    if num_names > _MOST_NAMES * len(hashes):
        return tuple(each & ~NAME_BIT for each in hashes)
    return tuple(hashes)


@lru_cache(maxsize=1 << 17)
def word_hash(word: str) -> int:
    """The hash of a word, with NAME_BIT if it begins with a capital.

    A_NUMBER stands for every number, and A_PRONOUN for the pronouns that change with a name.
    """
    if is_number(word):
        return A_NUMBER
    folded = word.casefold()
    if folded in _PRONOUNS:
        return A_PRONOUN
    body = blake2b(folded.encode(), digest_size=4).digest()
    return int.from_bytes(body, "big") % (NAME_BIT - 2) + 2 | NAME_BIT * word[0].isupper()


def _hash(*texts: str) -> int:
    body = "\0".join(texts).encode()
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big")


def fingerprints(source: TaskSource, share: Share) -> Iterator[Fingerprint]:
    """The Fingerprint of every row of the share that can become a problem."""
    for row in stated_rows(source, wanted=share.holds):
        if isinstance(row.statement, Statement):
            yield fingerprint(stated_problem(source, row, row.statement), row.ordinal)


def write_fingerprints(found: Iterator[Fingerprint], path: Path) -> int:
    """Writes them into a new Arrow file and returns their number; no more than a batch is held."""
    num_rows = 0
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        while batch := list(islice(found, ROWS_PER_BATCH)):
            num_rows += len(batch)
            columns = {name: [getattr(each, name) for each in batch] for name in SCHEMA.names}
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
    return num_rows


def read_fingerprints(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a file, mapped rather than read."""
    return mapped_table(path).select(columns)


def mapped_table(path: Path) -> pa.Table:
    """The table of an Arrow file, mapped rather than read."""
    return pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table into a new Arrow file."""
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """A column of lists: all values, and where each list begins and the last one ends."""

    values: np.ndarray
    starts: np.ndarray

    def of(self, row: int) -> np.ndarray:
        """The list of a row."""
        return self.values[self.starts[row] : self.starts[row + 1]]

    def part(self, first: int, last: int) -> Lists:
        """The lists of the rows from `first` to before `last`."""
        starts = self.starts[first : last + 1]
        return Lists(values=self.values[starts[0] : starts[-1]], starts=starts - starts[0])

    def only(self, rows: np.ndarray) -> Lists:
        """The lists of these rows."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Lists(values=self.values[places], starts=starts)

    @property
    def rows(self) -> np.ndarray:
        """The row of each value."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def lists(column: pa.ChunkedArray) -> Lists:
    """The Lists of a column."""
    parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
    lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    if not parts:
        return Lists(values=np.empty(0, np.uint64), starts=np.zeros(1, np.int64))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Lists(values=np.concatenate(parts), starts=starts)
