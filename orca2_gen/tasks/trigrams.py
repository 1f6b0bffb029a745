"""Runs of three words, and which of them say nothing within a task.

What occurs often within a task is its template; what rows with other numbers, choices or gold
answers have as well is a passage that several questions share. Neither says that two rows are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from orca2_gen.tasks.fingerprints import NAME_BIT, Lists, mapped_table, write_table

FEW, MANY = 10, 200
"""A run is rare up to this number of times: a hundredth of the task's rows, within these bounds."""
LEAST_IN_PASSAGE = 20
"""Runs one after the other that say nothing and make a passage or a template."""
_FACTORS = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)))
_SHIFT = np.uint64(29)
_ROWS_AT_ONCE = 65_536
_RUNS_AT_ONCE = 1 << 23
"""Runs that are sorted together, which takes about 500 MB."""


def trigrams(words: Lists) -> Lists:
    """The hash of every run of three words of each row, names or not."""
    plain = (words.values & np.uint32(NAME_BIT - 1)).astype(np.uint64)
    lengths = np.maximum(np.diff(words.starts) - 2, 0)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(starts[-1]) + np.repeat(words.starts[:-1] - starts[:-1], lengths)
    mixed = np.zeros(len(places), np.uint64)
    for offset, factor in enumerate(_FACTORS):
        mixed = (mixed ^ plain[places + offset]) * factor
        mixed ^= mixed >> _SHIFT
    return Lists(values=mixed, starts=starts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frequencies:
    """The runs of a task that say nothing, in order."""

    frequent: np.ndarray
    shared: np.ndarray
    """Runs of rows with different terms."""

    def are_rare(self, runs: np.ndarray) -> np.ndarray:
        """Whether each run is not frequent."""
        are_rare: np.ndarray = ~_are_in(runs, self.frequent)
        return are_rare

    def are_telling(self, runs: np.ndarray) -> np.ndarray:
        """Whether each run is neither frequent nor shared."""
        are_telling: np.ndarray = ~(_are_in(runs, self.frequent) | _are_in(runs, self.shared))
        return are_telling


def _are_in(runs: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(runs), np.bool_)
    places = np.minimum(np.searchsorted(ordered, runs), len(ordered) - 1)
    found: np.ndarray = ordered[places] == runs
    return found


def frequencies(words: Lists, terms: np.ndarray) -> Frequencies:
    """The Frequencies of a task whose rows have these words and terms."""
    most = min(max(FEW, len(terms) // 100), MANY)
    num_parts = max(1, math.ceil(len(words.values) / _RUNS_AT_ONCE))
    frequent, shared = [], []
    for part in range(num_parts):
        runs, of_runs = _part_of_runs(words, terms, part, num_parts)
        order = np.lexsort((of_runs, runs))
        runs, of_runs = runs[order], of_runs[order]
        starts = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]])[: len(runs)])
        ends = np.append(starts, len(runs))[1:]
        frequent.append(runs[starts[ends - starts > most]])
        shared.append(runs[starts[of_runs[starts] != of_runs[ends - 1]]])
    return Frequencies(
        frequent=np.sort(np.concatenate(frequent)), shared=np.sort(np.concatenate(shared))
    )


def _part_of_runs(
    words: Lists, terms: np.ndarray, part: int, num_parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """The runs that fall into one of some parts, and the terms of their rows."""
    found = [np.empty(0, np.uint64)]
    of_found = [np.empty(0, np.uint64)]
    for first in range(0, len(terms), _ROWS_AT_ONCE):
        runs = trigrams(words.part(first, first + _ROWS_AT_ONCE))
        is_part = runs.values % np.uint64(num_parts) == part
        found.append(runs.values[is_part])
        of_found.append(terms[first + runs.rows[is_part]])
    return np.concatenate(found), np.concatenate(of_found)


def outside_passages(are_telling: np.ndarray, num_words: int) -> list[bool]:
    """Whether each word of a row lies outside every long row of runs that say nothing."""
    found = np.ones(num_words, np.bool_)
    ends = np.flatnonzero(np.append(are_telling, True))
    first = 0
    for end in ends.tolist():
        if end - first >= LEAST_IN_PASSAGE:
            found[first : end + 2] = False
        first = end + 1
    told: list[bool] = found.tolist()
    return told


def write_frequencies(often: Frequencies, path: Path) -> None:
    """Writes them into a new Arrow file, to be mapped by many."""
    found = {"frequent": often.frequent, "shared": often.shared}
    schema = pa.schema([(name, pa.list_(pa.uint64())) for name in found])
    columns = [pa.ListArray.from_arrays([0, len(each)], pa.array(each)) for each in found.values()]
    write_table(pa.table(columns, schema=schema), path)


def read_frequencies(path: Path) -> Frequencies:
    """The Frequencies of a file, mapped rather than read."""
    table = mapped_table(path)
    return Frequencies(
        frequent=table["frequent"].chunk(0).flatten().to_numpy(),
        shared=table["shared"].chunk(0).flatten().to_numpy(),
    )
