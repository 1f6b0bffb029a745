"""Fingerprints -> rows that ask a held-out question with other names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from orca2_gen.tasks.duplicates import Found, TaskFingerprints, all_rows
from orca2_gen.tasks.fingerprints import A_NUMBER, Lists, lists
from orca2_gen.tasks.likeness import is_renamed
from orca2_gen.tasks.matches import CONTAMINATED
from orca2_gen.tasks.trigrams import Frequencies, frequencies, trigrams

LEAST_COMMON = 3
"""Rare runs of three words that two questions must share to be looked at."""
_LEAST_EVIDENCE = 7
"""Rare runs in common and twice the numbers of a question that may be another's but for names: a
short one without numbers (`Which river is at the home of Ann?`) may be a template for names."""
_ROWS_AT_ONCE = 65_536
_COLUMNS = ("problem_id", "terms", "words")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def renamed_copies(
    trained: Sequence[TaskFingerprints], held_out: Sequence[TaskFingerprints]
) -> Iterator[Found]:
    """Every row that repeats a held-out row but for the names in it."""
    if not held_out:
        return
    known = _HeldOut(held_out)
    start = 0
    for task in trained:
        table = task.table(_COLUMNS)
        words = lists(table["words"])
        often = frequencies(words, table["terms"].to_numpy())
        yield from known.repeated_in(table, words, often, start)
        start += len(table)


class _HeldOut:
    """The held-out rows, to be found by their numbers, choices and gold, and their rare runs."""

    def __init__(self, tasks: Sequence[TaskFingerprints]) -> None:
        table = all_rows(tasks, _COLUMNS)
        rare = []
        for task in tasks:
            own = task.table(["terms", "words"])
            words = lists(own["words"])
            often = frequencies(words, own["terms"].to_numpy())
            rare.append(often.are_rare(trigrams(words).values))
        self._ids: list[str] = table["problem_id"].to_pylist()
        self._terms = table["terms"].to_numpy()
        self._words = lists(table["words"])
        runs = trigrams(self._words)
        is_rare = np.concatenate(rare)
        rows = runs.rows[is_rare]
        keys = _mixed(runs.values[is_rare], self._terms[rows])
        order = np.argsort(keys, kind="stable")
        self._keys, self._rows = keys[order], rows[order]

    def repeated_in(
        self, table: pa.Table, words: Lists, often: Frequencies, start: int
    ) -> Iterator[Found]:
        """The rows of a task, the first of which is number `start`, that repeat one of these."""
        terms = table["terms"].to_numpy()
        candidates = np.flatnonzero(np.isin(terms, self._terms))
        for first in range(0, len(candidates), _ROWS_AT_ONCE):
            rows = candidates[first : first + _ROWS_AT_ONCE]
            asked = words.only(rows)
            partners: dict[int, str] = {}
            for row, other, num_common in self._alike(asked, terms[rows], often):
                words_of_row = asked.of(row).tolist()
                if num_common + 2 * words_of_row.count(A_NUMBER) < _LEAST_EVIDENCE:
                    continue
                if is_renamed(self._words.of(other).tolist(), words_of_row):
                    partners[row] = min(self._ids[other], partners.get(row, self._ids[other]))
            for row, partner in partners.items():
                yield Found(row=start + int(rows[row]), reason=CONTAMINATED, partner=partner)

    def _alike(
        self, asked: Lists, terms: np.ndarray, often: Frequencies
    ) -> Iterator[tuple[int, int, int]]:
        """Pairs of a row and a held-out row that share rare runs, and the number of these."""
        runs = trigrams(asked)
        is_rare = often.are_rare(runs.values)
        rows = runs.rows[is_rare]
        keys = _mixed(runs.values[is_rare], terms[rows])
        first, last = np.searchsorted(self._keys, keys), np.searchsorted(self._keys, keys, "right")
        lengths = last - first
        places = np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)
        pairs = np.stack([np.repeat(rows, lengths), self._rows[places]], axis=1)
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        enough = counts >= LEAST_COMMON
        rows_of_pairs, others = found[enough].T.tolist() if enough.any() else ([], [])
        yield from zip(rows_of_pairs, others, counts[enough].tolist(), strict=True)


def _mixed(runs: np.ndarray, terms: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = (runs ^ terms) * _FACTOR
    return mixed
