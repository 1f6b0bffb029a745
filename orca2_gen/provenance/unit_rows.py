"""The rows of committed units, for checks that say nothing of damaged files: another one does."""

from __future__ import annotations

from typing import Any

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_table
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.record_tables import from_table
from orca2_gen.run_directory.units import Receipt


def rows_of(ledger: Ledger, stage: str, unit: str, record: type[Any]) -> list[Any]:
    """The accepted rows of a unit; none if it is not committed, or damaged."""
    receipt = ledger.units.get((stage, unit))
    return rows_in(ledger, receipt, record) if receipt is not None else []


def rows_in(ledger: Ledger, receipt: Receipt, record: type[Any]) -> list[Any]:
    """The accepted rows of a unit; none if they are damaged."""
    return stored_rows(ledger, receipt.accepted, record)[0]


def lost_in(ledger: Ledger, receipt: Receipt) -> set[str]:
    """Ids of the problems that a unit rejected."""
    return {row.problem_id for row in rejections_in(ledger, receipt)[0]}


def rejections_in(ledger: Ledger, receipt: Receipt) -> tuple[list[Rejection], bool]:
    """The rejections of a unit, and whether they name their attempts."""
    if receipt.rejections is None:
        return [], True
    return stored_rows(ledger, receipt.rejections, Rejection)


def stored_rows(ledger: Ledger, entry: FileEntry, record: type[Any]) -> tuple[list[Any], bool]:
    """The rows of a file, none if it is damaged, and whether they name their attempts.

    Older versions named none of an example: each problem had one.
    """
    try:
        table = read_table(ledger.run_dir, entry, record)
    except DamagedFile:
        return [], True
    return from_table(table, record), "attempt" in table.column_names
