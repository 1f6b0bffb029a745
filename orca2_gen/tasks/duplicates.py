"""Fingerprints -> rows that repeat another row exactly, up to case, spaces, numbers, Unicode form.

Of several rows the one with the smallest problem id stays; none stays that a held-out row repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.tasks.fingerprints import lists, mapped_table, read_fingerprints, write_table
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A row among all rows of the tasks, and the row that it repeats."""

    row: int
    reason: str
    partner: str
    similarity: float = 1.0


_FOUND = pa.schema(
    [
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("partner", pa.string()),
        ("similarity", pa.float64()),
    ]
)


def write_found(found: Sequence[Found], path: Path) -> None:
    """Writes rows and what they repeat into a new Arrow file."""
    write_table(pa.Table.from_pylist([asdict(each) for each in found], schema=_FOUND), path)


def read_found(path: Path) -> list[Found]:
    """The rows of a file, and what they repeat."""
    return [Found(**row) for row in mapped_table(path).to_pylist()]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFingerprints:
    """The fingerprints of a task's rows, in the files of its shares."""

    task: str
    files: tuple[Path, ...]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """These columns, file by file; of rows with one id, only the first in reading order.

        The others are rejected for their id, whatever they ask.
        """
        needed = list(dict.fromkeys([*columns, "problem_id", "ordinal"]))
        parts = [read_fingerprints(path, needed) for path in self.files]
        table = pa.concat_tables(parts)
        if pc.count_distinct(table["problem_id"]).as_py() < len(table):
            first = table.group_by("problem_id").aggregate([("ordinal", "min")])["ordinal_min"]
            table = table.filter(pc.is_in(table["ordinal"], first))
        return table.select(list(columns))


def all_rows(tasks: Sequence[TaskFingerprints], columns: Sequence[str]) -> pa.Table:
    """These columns of the rows of all tasks, in the order of the tasks."""
    return pa.concat_tables([task.table(columns) for task in tasks])


def exact_copies(
    trained: Sequence[TaskFingerprints], held_out: Sequence[TaskFingerprints]
) -> Iterator[Found]:
    """Every row that repeats a held-out row, or a row with a smaller problem id."""
    table = all_rows(trained, ["problem_id", "copy", "held"])
    if not len(table):
        return
    taken: set[int] = set()
    for found in _contaminated(table, held_out):
        taken.add(found.row)
        yield found
    yield from (found for found in _duplicates(table) if found.row not in taken)


def _duplicates(table: pa.Table) -> Iterator[Found]:
    copies = table["copy"].to_numpy()
    order = np.argsort(copies, kind="stable")
    is_same = copies[order][1:] == copies[order][:-1]
    rows = order[np.concatenate([is_same, [False]]) | np.concatenate([[False], is_same])]
    ids = table["problem_id"].take(pa.array(rows)).to_pylist()
    smallest: dict[int, str] = {}
    for row, own in zip(rows, ids, strict=True):
        key = int(copies[row])
        smallest[key] = min(own, smallest.get(key, own))
    for row, own in zip(rows, ids, strict=True):
        partner = smallest[int(copies[row])]
        if partner != own:
            yield Found(row=int(row), reason=DUPLICATE, partner=partner)


def _contaminated(table: pa.Table, tasks: Sequence[TaskFingerprints]) -> Iterator[Found]:
    if not tasks:
        return
    held_out = all_rows(tasks, ["problem_id", "held"])
    asked, known = lists(table["held"]), lists(held_out["held"])
    is_known = np.isin(asked.values, known.values)
    wanted = np.unique(asked.values[is_known])
    of_held = np.isin(known.values, wanted)
    rows, hashes = known.rows[of_held], known.values[of_held].tolist()
    partners: dict[int, str] = {}
    ids = held_out["problem_id"].take(pa.array(rows)).to_pylist()
    for key, partner in zip(hashes, ids, strict=True):
        partners[key] = min(partner, partners.get(key, partner))
    best: dict[int, str] = {}
    for row, key in zip(
        asked.rows[is_known].tolist(), asked.values[is_known].tolist(), strict=True
    ):
        best[row] = min(partners[key], best.get(row, partners[key]))
    for row, partner in best.items():
        yield Found(row=row, reason=CONTAMINATED, partner=partner)
