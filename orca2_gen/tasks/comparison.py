"""The comparison of all rows with each other, as calls that write files and can run anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from orca2_gen.tasks.copies import copies, write_copies, write_near_list
from orca2_gen.tasks.duplicates import TaskFingerprints, all_rows, read_found, write_found
from orca2_gen.tasks.fingerprints import lists
from orca2_gen.tasks.near_duplicates import (
    NUM_BANDS,
    NearPairs,
    Range,
    near_copies,
    pairs_in_bands,
    read_candidates,
    read_pairs,
    write_candidates,
    write_pairs,
    write_signatures,
)
from orca2_gen.tasks.trigrams import frequencies, read_frequencies, write_frequencies

Results = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
"""(function, arguments of each call) -> results, wherever the calls run."""
_ROWS_PER_CALL = 131_072
_BANDS_PER_CALL = 8
_PAIRS_PER_CALL = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The rows to compare, and what becomes of copies."""

    folder: Path
    """Folder for all files of the comparison."""
    trained: tuple[TaskFingerprints, ...]
    held_out: tuple[TaskFingerprints, ...]
    duplicates: bool = True
    """Whether rows that repeat a row that is not held out are copies."""
    near: Literal["ignore", "report", "remove"] = "report"
    near_list: Path | None = None
    """File for the near-duplicates that stay."""

    @property
    def tasks(self) -> tuple[TaskFingerprints, ...]:
        """All tasks, the held-out ones last."""
        return (*self.trained, *self.held_out)

    def file(self, name: str) -> Path:
        """A file of the comparison."""
        return self.folder / f"{name}.arrow"


def compare(comparison: Comparison, results: Results) -> Counter[str]:
    """The number of matches by reason, after the files of every task's matches are written."""
    near_parts: list[Path] = []
    lengths: list[int] = []
    if comparison.near == "ignore":
        results(_write_exact, [(comparison,)])
    else:
        calls = [(comparison, index) for index in range(len(comparison.tasks))]
        lengths = results(_write_frequencies, calls)
        near_parts = _compare_nearly(comparison, lengths, results)
    num_trained = sum(lengths[: len(comparison.trained)])
    found: Counter[str]
    [found] = results(_write_matches, [(comparison, num_trained, near_parts)])
    return found


def _compare_nearly(comparison: Comparison, lengths: Sequence[int], results: Results) -> list[Path]:
    """The files of pairs that are near-duplicates; exact copies are written beside them."""
    ranges = list(_ranges(comparison, lengths))
    signed = [comparison.file(f"signatures-{index}") for index in range(len(ranges))]
    exact = (_write_exact, comparison)  # the longest call goes first
    calls = zip(ranges, signed, strict=True)
    results(_written, [exact, *((_write_signatures, comparison, *call) for call in calls)])
    if not ranges:
        return []
    firsts = range(0, NUM_BANDS, _BANDS_PER_CALL)
    bands = [(range(first, first + _BANDS_PER_CALL)) for first in firsts]
    candidates = [comparison.file(f"candidates-{each[0]}") for each in bands]
    results(_write_candidates, [(signed, *each) for each in zip(bands, candidates, strict=True)])
    pairs = comparison.file("candidates")
    [num_pairs] = results(_write_all_candidates, [(comparison, candidates, pairs)])
    places = range(0, num_pairs, _PAIRS_PER_CALL)
    alike = [comparison.file(f"pairs-{first}") for first in places]
    results(
        _write_alike,
        [(comparison, pairs, first, path) for first, path in zip(places, alike, strict=True)],
    )
    return alike


def _written(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)


def _ranges(comparison: Comparison, lengths: Sequence[int]) -> Iterator[tuple[int, Range]]:
    """Each task's place and a range of its rows."""
    start = 0
    for index, (task, length) in enumerate(zip(comparison.tasks, lengths, strict=True)):
        for first in range(0, length, _ROWS_PER_CALL):
            last = min(first + _ROWS_PER_CALL, length)
            yield index, Range(task=task, start=start, first=first, last=last)
        start += length


def _write_exact(comparison: Comparison) -> None:
    found = copies(comparison.trained, comparison.held_out, duplicates=comparison.duplicates)
    write_found(found, comparison.file("exact"))


def _write_frequencies(comparison: Comparison, index: int) -> int:
    """The number of the task's rows."""
    table = comparison.tasks[index].table(["terms", "words"])
    often = frequencies(lists(table["words"]), table["terms"].to_numpy())
    write_frequencies(often, comparison.file(f"frequencies-{index}"))
    return len(table)


def _write_signatures(comparison: Comparison, task: tuple[int, Range], path: Path) -> None:
    index, rows = task
    write_signatures(rows, read_frequencies(comparison.file(f"frequencies-{index}")), path)


def _write_candidates(signed: Sequence[Path], bands: Sequence[int], path: Path) -> None:
    write_candidates(pairs_in_bands(signed, bands), path)


def _write_all_candidates(comparison: Comparison, files: Sequence[Path], path: Path) -> int:
    """The number of different pairs in all files, exact copies apart."""
    pairs = np.unique(np.concatenate([read_candidates(file) for file in files]), axis=0)
    copy = all_rows(comparison.tasks, ["copy"])["copy"].to_numpy()
    pairs = pairs[copy[pairs[:, 0]] != copy[pairs[:, 1]]]
    write_candidates(pairs, path)
    return len(pairs)


def _write_alike(comparison: Comparison, candidates: Path, first: int, path: Path) -> None:
    files = [comparison.file(f"frequencies-{index}") for index in range(len(comparison.tasks))]
    rows = NearPairs(comparison.tasks, [read_frequencies(file) for file in files])
    pairs = read_candidates(candidates)[first : first + _PAIRS_PER_CALL]
    write_pairs(rows.alike(pairs), path)


def _write_matches(
    comparison: Comparison, num_trained: int, near_parts: Sequence[Path]
) -> Counter[str]:
    found = read_found(comparison.file("exact"))
    if near_parts:
        pairs = pa.concat_tables([read_pairs(path) for path in near_parts])
        taken = {each.row for each in found}
        near = list(near_copies(comparison.tasks, num_trained, pairs, taken))
        found += near
    if comparison.near == "report" and comparison.near_list is not None:
        write_near_list(comparison.trained, found, comparison.near_list)
    return write_copies(comparison.folder, comparison.trained, found)
