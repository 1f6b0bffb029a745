"""The figures of a dataset's rows, counted batch by batch: rows, tokens and lengths."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.dataset.shards import features_of
from orca2_gen.run_directory.row_names import rows_in_words


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary:
    """The figures of a written dataset."""

    directory: str
    rows: int
    shards: int
    input_tokens: int
    trained_tokens: int
    rows_by_task: dict[str, int]
    prompts: str
    problems: int | None = None
    """The problems of the rows, of which one may have several; older versions left it out, whose
    problems had one."""

    @property
    def counted(self) -> str:
        """The number of rows in words, and of problems where it is another one."""
        return rows_in_words(self.rows, self.problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskTokens:
    """The tokens of a task's rows."""

    input: int
    trained: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTokens:
    """The tokens of a row: the values below which these shares of the rows lie, none between
    two of them; 0 of no rows.
    """

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFigures:
    """The figures of a dataset's rows beside those of its summary."""

    rows_by_strategy: dict[str, int]
    tokens_by_task: dict[str, TaskTokens]
    row_tokens: RowTokens
    columns: tuple[tuple[str, Any], ...]
    """The columns in their order, each with its feature in the words of dataset_info.json."""


@dataclass(kw_only=True, slots=True)
class RowCounts:
    """The figures of rows, as they come."""

    by_task: Counter[str] = field(default_factory=Counter)
    by_strategy: Counter[str] = field(default_factory=Counter)
    input_by_task: Counter[str] = field(default_factory=Counter)
    trained_by_task: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    """Tokens of a row -> rows that have as many."""
    problems: int = 0
    last: str | None = None
    """Problem of the last row: the rows of a problem follow each other."""

    @property
    def input_tokens(self) -> int:
        return self.input_by_task.total()

    @property
    def trained_tokens(self) -> int:
        return self.trained_by_task.total()

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of a shard's batch too."""
        if not batch.num_rows:
            return
        ids = batch.column("problem_id")
        is_other = pc.not_equal(ids[1:], ids[:-1])
        self.problems += (pc.sum(is_other).as_py() or 0) + (ids[0].as_py() != self.last)
        self.last = ids[-1].as_py()
        lengths = pc.fill_null(batch.column("input_ids").value_lengths(), 0).to_numpy()
        prompts = pc.fill_null(batch.column("num_prompt_tokens"), 0).to_numpy()
        tasks, places = _coded(batch.column("task"))
        for name, found in zip(tasks, np.bincount(places, minlength=len(tasks)), strict=True):
            self.by_task[name] += int(found)
        for sums, values in (
            (self.input_by_task, lengths.astype(np.int64)),
            (self.trained_by_task, lengths.astype(np.int64) - prompts),
        ):
            of_task = np.zeros(len(tasks), np.int64)
            np.add.at(of_task, places, values)
            for name, value in zip(tasks, of_task.tolist(), strict=True):
                sums[name] += value
        strategies, places = _coded(batch.column("strategy"))
        counts = np.bincount(places, minlength=len(strategies)).tolist()
        self.by_strategy.update(dict(zip(strategies, counts, strict=True)))
        values, counts = np.unique(lengths, return_counts=True)
        self.lengths.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def summary(self, directory: str, shards: int, prompts: str) -> DatasetSummary:
        """The summary of a dataset of all rows so far."""
        return DatasetSummary(
            directory=directory,
            rows=self.by_task.total(),
            shards=shards,
            input_tokens=self.input_tokens,
            trained_tokens=self.trained_tokens,
            rows_by_task=dict(sorted(self.by_task.items())),
            prompts=prompts,
            problems=self.problems,
        )

    def figures(self, schema: pa.Schema) -> RowFigures:
        """The further figures of all rows so far, which have this schema."""
        return RowFigures(
            rows_by_strategy=dict(sorted(self.by_strategy.items())),
            tokens_by_task={
                task: TaskTokens(input=num, trained=self.trained_by_task[task])
                for task, num in sorted(self.input_by_task.items())
            },
            row_tokens=RowTokens(
                min=self._length_of(0.0),
                median=self._length_of(0.5),
                p95=self._length_of(0.95),
                max=self._length_of(1.0),
            ),
            columns=tuple(features_of(schema).items()),
        )

    def _length_of(self, share: float) -> int:
        """The least length that this share of the rows does not exceed; 0 of no rows."""
        wanted = max(1, math.ceil(share * self.lengths.total()))
        for length in sorted(self.lengths):
            wanted -= self.lengths[length]
            if wanted <= 0:
                return length
        return 0


def _coded(column: pa.Array) -> tuple[list[Any], np.ndarray[Any, np.dtype[Any]]]:
    """The different values of a column, and for each row the place of its own among them."""
    coded = column.dictionary_encode(null_encoding="encode")
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()
