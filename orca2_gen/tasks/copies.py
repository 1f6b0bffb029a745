"""Fingerprints of all tasks -> a file of matches for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from orca2_gen.tasks.contamination import renamed_copies
from orca2_gen.tasks.duplicates import Found, TaskFingerprints, exact_copies
from orca2_gen.tasks.matches import (
    CONTAMINATED,
    DUPLICATE,
    NEAR,
    Match,
    write_list,
    write_matches,
)

NEAR_LIST = "near_duplicates.jsonl"
"""File of a run directory with the near-duplicates that stay."""


def copies(
    trained: Sequence[TaskFingerprints],
    held_out: Sequence[TaskFingerprints],
    *,
    duplicates: bool = True,
) -> list[Found]:
    """Every row that is a copy, in order, each once: of a held-out row if there is one."""
    best: dict[int, Found] = {}
    for found in (*exact_copies(trained, held_out), *renamed_copies(trained, held_out)):
        first = best.setdefault(found.row, found)
        if first.reason == DUPLICATE and found.reason == CONTAMINATED:
            best[found.row] = found
    return [
        found for _, found in sorted(best.items()) if duplicates or found.reason == CONTAMINATED
    ]


def matches_of_tasks(
    trained: Sequence[TaskFingerprints], found: Sequence[Found]
) -> Iterator[tuple[str, list[Match]]]:
    """Each task and its matches; `found` is in order of the rows of all tasks."""
    rows = np.array([each.row for each in found], dtype=np.int64)
    start = 0
    for task in trained:
        table = task.table(["problem_id", "ordinal"])
        first, last = np.searchsorted(rows, [start, start + len(table)])
        own = table.take(pa.array(rows[first:last] - start)).to_pylist()
        yield (
            task.task,
            [
                Match(**row, reason=each.reason, partner=each.partner, similarity=each.similarity)
                for row, each in zip(own, found[first:last], strict=True)
            ],
        )
        start += len(table)


def write_copies(
    folder: Path, trained: Sequence[TaskFingerprints], found: Sequence[Found]
) -> Counter[str]:
    """Writes `TASK.matches` for every task and returns the number of matches by reason."""
    for task, matches in matches_of_tasks(trained, sorted(found, key=lambda each: each.row)):
        write_matches(matches, matches_file(folder, task))
    return Counter(each.reason for each in found)


def write_near_list(
    trained: Sequence[TaskFingerprints], found: Sequence[Found], path: Path
) -> None:
    """Writes the near-duplicates among the rows for people, by task and row."""
    near = sorted((each for each in found if each.reason == NEAR), key=lambda each: each.row)
    write_list([match for _, matches in matches_of_tasks(trained, near) for match in matches], path)


def matches_file(folder: Path, task: str) -> Path:
    """The file of a task's matches."""
    return folder / f"{task}.matches"
