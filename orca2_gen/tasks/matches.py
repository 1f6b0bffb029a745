"""Rows that repeat another row, and what becomes of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from orca2_gen.records import Rejection
from orca2_gen.run_directory.durable_files import write_bytes

COPIES_VERSION = 1
"""Raise it with every change that can alter which rows are copies: part of the stage keys."""
DUPLICATE, CONTAMINATED, NEAR = "duplicate", "contaminated", "near_duplicate"
_SENTENCES = {
    DUPLICATE: "asks the same question as {}, which stays, and has the same gold answer",
    CONTAMINATED: "asks the same question as {}, which is held out, and has the same gold answer",
    NEAR: "asks nearly the same question as {} (alike by {:.2f}) and has the same gold answer",
}
_SCHEMA = pa.schema(
    [
        ("ordinal", pa.int64()),
        ("problem_id", pa.string()),
        ("reason", pa.string()),
        ("partner", pa.string()),
        ("similarity", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A row of a task and the row that it repeats."""

    ordinal: int
    """The row's place among its task's rows, in reading order."""
    problem_id: str
    reason: str
    """`duplicate`, `contaminated` or `near_duplicate`."""
    partner: str
    """Problem id of the row that it repeats."""
    similarity: float
    """Share of the words that both have; 1.0 unless it is a near-duplicate."""

    def rejection(self, stage: str, place: str) -> Rejection:
        """The Rejection of the row, which stands at this place of its files."""
        said = _SENTENCES[self.reason].format(self.partner, self.similarity)
        return Rejection(
            problem_id=self.problem_id,
            stage=stage,
            reason=self.reason,
            detail=f"{place}: {said}",
        )


def write_matches(matches: Iterable[Match], path: Path) -> None:
    """Writes the matches of a task into a new Arrow file."""
    table = pa.Table.from_pylist([asdict(match) for match in matches], schema=_SCHEMA)
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(table)


def read_matches(path: Path) -> list[Match]:
    """The matches of a task."""
    with pa.OSFile(os.fspath(path), "rb") as stream:
        table = pa.ipc.open_file(stream).read_all()
    return [Match(**row) for row in table.to_pylist()]


def write_list(matches: Iterable[Match], path: Path) -> None:
    """Writes a line of JSON for each match, for people: row, partner, and how alike they are."""
    lines = [
        json.dumps(
            {
                "problem_id": match.problem_id,
                "partner": match.partner,
                "similarity": round(match.similarity, 4),
            }
        )
        for match in matches
    ]
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
