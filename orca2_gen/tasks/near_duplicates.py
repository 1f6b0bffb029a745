"""Fingerprints -> pairs of rows that differ in a few words.

Every row is signed with MinHash over its rare runs of three words. A signature is cut into bands,
and rows that agree in a band, and in numbers, choices and gold, are compared word by word. Bands
are columns of Arrow files, each sorted by itself: an index in memory would not fit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orca2_gen.tasks.contamination import LEAST_COMMON
from orca2_gen.tasks.duplicates import Found, TaskFingerprints, all_rows
from orca2_gen.tasks.fingerprints import Lists, lists, mapped_table, write_table
from orca2_gen.tasks.likeness import likeness
from orca2_gen.tasks.matches import NEAR
from orca2_gen.tasks.trigrams import Frequencies, outside_passages, trigrams

NUM_BANDS, ROWS_OF_BAND = 32, 2
"""Bands, and hashes in each: rows that share half of their runs meet in one but for 1 in 10,000,
those that share 3 in 10 but for 1 in 20."""
_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)
_SCHEMA = pa.schema([("row", pa.int64()), *((f"band_{i}", pa.uint64()) for i in range(NUM_BANDS))])
_PAIRS = pa.schema([("row", pa.int64()), ("other", pa.int64()), ("similarity", pa.float64())])
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Rows of one task, to be signed together."""

    task: TaskFingerprints
    start: int
    """Number of the task's first row among all rows."""
    first: int
    last: int
    """The rows of the task, from `first` to before `last`."""


def write_signatures(rows: Range, often: Frequencies, path: Path) -> None:
    """Writes the band keys of a range of rows; rows with too few rare runs have none."""
    table = rows.task.table(["terms", "words"])
    terms, words = table["terms"].to_numpy(), lists(table["words"])
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for first in range(rows.first, rows.last, _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, rows.last)
            runs = trigrams(words.part(first, last))
            signed, keys = _band_keys(runs, often.are_rare(runs.values), terms[first:last])
            columns = [pa.array(signed + (rows.start + first)), *map(pa.array, keys.T)]
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))


def _band_keys(
    runs: Lists, is_rare: np.ndarray, terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that can be signed, and the keys of their bands, one row each."""
    from datasketch import MinHash  # it imports scipy, which takes a second

    minhash = MinHash(num_perm=NUM_BANDS * ROWS_OF_BAND, hashfunc=int)
    short = (runs.values >> np.uint64(32)).astype(np.uint32)
    num_rare = np.add.reduceat(np.append(is_rare, False), runs.starts[:-1], dtype=np.int64)
    num_rare[np.diff(runs.starts) == 0] = 0
    signed = np.flatnonzero(num_rare >= LEAST_COMMON)
    signatures = np.empty((len(signed), NUM_BANDS * ROWS_OF_BAND), np.uint64)
    for place, row in enumerate(signed):
        part = slice(runs.starts[row], runs.starts[row + 1])
        minhash.clear()
        minhash.update_batch(short[part][is_rare[part]].tolist())
        signatures[place] = minhash.hashvalues
    keys = terms[signed].astype(np.uint64)[:, None].repeat(NUM_BANDS, axis=1)
    for column in range(ROWS_OF_BAND):
        keys = (keys ^ signatures[:, column::ROWS_OF_BAND]) * _FACTOR
        keys ^= keys >> np.uint64(31)
    return signed, keys


def pairs_in_bands(files: Sequence[Path], bands: Sequence[int]) -> np.ndarray:
    """Pairs of rows that agree in one of these bands, each once, the smaller number first.

    Of many rows that agree, each is paired with the first and with the one before it.
    """
    found = [np.empty((0, 2), np.int64)]
    for band in bands:
        table = pa.concat_tables(
            mapped_table(path).select(["row", f"band_{band}"]) for path in files
        )
        keys, rows = table[f"band_{band}"].to_numpy(), table["row"].to_numpy()
        order = np.lexsort((rows, keys))
        keys, rows = keys[order], rows[order]
        is_same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        first_of_key = np.searchsorted(keys, keys[is_same])
        found.append(np.stack([rows[is_same - 1], rows[is_same]], axis=1))
        found.append(np.stack([rows[first_of_key], rows[is_same]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def write_candidates(pairs: np.ndarray, path: Path) -> None:
    """Writes pairs of rows into a new Arrow file."""
    write_table(pa.table({"row": pairs[:, 0], "other": pairs[:, 1]}), path)


def read_candidates(path: Path) -> np.ndarray:
    """The pairs of rows of a file."""
    table = mapped_table(path)
    return np.stack([table["row"].to_numpy(), table["other"].to_numpy()], axis=1)


class NearPairs:
    """The rows of all tasks, in which pairs are compared word by word."""

    def __init__(self, tasks: Sequence[TaskFingerprints], often: Sequence[Frequencies]) -> None:
        """Maps the rows; `often` are the Frequencies of each task."""
        table = all_rows(tasks, ["terms", "words"])
        self._terms, self._words = table["terms"].to_numpy(), lists(table["words"])
        self._ends = np.cumsum([len(task.table(["terms"])) for task in tasks])
        self._often = often

    def alike(self, pairs: np.ndarray) -> Iterator[tuple[int, int, float]]:
        """Those of the pairs that are near-duplicates, with the share of words in common."""
        for row, other in pairs.tolist():
            if self._terms[row] != self._terms[other]:
                continue
            (runs, told), (other_runs, other_told) = self._telling(row), self._telling(other)
            if len(runs & other_runs) >= LEAST_COMMON:
                words = [self._words.of(each).tolist() for each in (row, other)]
                if alike := likeness(words[0], words[1], (told, other_told)):
                    yield row, other, alike

    def _telling(self, row: int) -> tuple[set[int], list[bool]]:
        """The rare runs of a row, and whether each word is outside its passages."""
        often = self._often[int(np.searchsorted(self._ends, row, side="right"))]
        words = self._words.of(row)
        runs = trigrams(Lists(values=words, starts=np.array([0, len(words)]))).values
        rare: set[int] = set(runs[often.are_rare(runs)].tolist())
        return rare, outside_passages(often.are_telling(runs), len(words))


def write_pairs(found: Iterator[tuple[int, int, float]], path: Path) -> None:
    """Writes pairs of rows and their likeness into a new Arrow file."""
    columns: list[Any] = [*zip(*found, strict=True)] or [(), (), ()]
    write_table(pa.table(list(map(list, columns)), schema=_PAIRS), path)


def read_pairs(path: Path) -> pa.Table:
    """The pairs of a file and their likeness."""
    return mapped_table(path)


def near_copies(
    tasks: Sequence[TaskFingerprints], num_trained: int, pairs: pa.Table, taken: set[int]
) -> Iterator[Found]:
    """The rows to be removed if no pair may stay: none is a held-out row's near-duplicate, and no
    two that stay are each other's.

    Args:
        tasks: the tasks, held-out ones last.
        num_trained: rows that are not held out.
        pairs: rows that are near-duplicates of each other.
        taken: rows that are removed for another reason.
    """
    partners: dict[int, dict[int, float]] = {}
    for row, other, alike in zip(*(pairs[name].to_pylist() for name in _PAIRS.names), strict=True):
        for one, two in ((row, other), (other, row)):
            if one < num_trained and not {one, two} & taken:
                partners.setdefault(one, {})[two] = alike
    rows = sorted({*partners, *(other for of in partners.values() for other in of)})
    ids = all_rows(tasks, ["problem_id"])["problem_id"].take(pa.array(rows, pa.int64()))
    id_of = dict(zip(rows, ids.to_pylist(), strict=True))
    removed: set[int] = set()
    for row in sorted(partners, key=lambda row: id_of[row]):
        of_row = partners[row]
        held_out = [other for other in of_row if other >= num_trained]
        earlier = [o for o in of_row if o not in removed and id_of[o] < id_of[row]]
        if candidates := held_out or earlier:
            removed.add(row)
            best = min(candidates, key=lambda other: id_of[other])
            yield Found(row=row, reason=NEAR, partner=id_of[best], similarity=of_row[best])
