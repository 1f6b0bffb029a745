"""Runs of three words, and how often they occur within a task.

What occurs often within a task is its template or a passage that its questions share, and says
nothing about two rows being one: only rare runs count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orca2_gen.tasks.fingerprints import NAME_BIT, Lists

FEW, MANY = 10, 200
"""A run is rare up to this number of times: a hundredth of the task's rows, within these bounds."""
_FACTORS = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)))
_SHIFT = np.uint64(29)
_ROWS_AT_ONCE = 65_536
_LEAST_BITS, _MOST_BITS = 12, 24


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
    """How often each run occurs within a task, or a little more often where two share a place."""

    counts: np.ndarray
    most: int
    """Times up to which a run is rare."""

    def are_rare(self, runs: np.ndarray) -> np.ndarray:
        """Whether each run is rare."""
        are_rare: np.ndarray = self.counts[_places(runs, len(self.counts))] <= self.most
        return are_rare


def frequencies(words: Lists) -> Frequencies:
    """The Frequencies of a task whose rows have these words."""
    num_rows = len(words.starts) - 1
    num_bits = int(4 * len(words.values)).bit_length()
    size = 1 << min(max(num_bits, _LEAST_BITS), _MOST_BITS)
    counts = np.zeros(size, np.uint32)
    for first in range(0, num_rows, _ROWS_AT_ONCE):
        runs = trigrams(words.part(first, first + _ROWS_AT_ONCE)).values
        np.add.at(counts, _places(runs, size), 1)
    return Frequencies(counts=counts, most=min(max(FEW, num_rows // 100), MANY))


def _places(runs: np.ndarray, size: int) -> np.ndarray:
    return (runs >> np.uint64(40)) & np.uint64(size - 1)
