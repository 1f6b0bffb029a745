"""Rows of each task that a run has read: accepted, and rejected by reason, as receipts count them.

A receipt of a stage that reads counts its rejections by reason (`reason_counts`), so neither the
driver nor `orca2 status` reads rows. Receipts of earlier versions count them in one sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt

READING = ("problems", "evaluation_problems")
"""The stages whose units are ranges of one task's rows: `gsm8k-000003`."""
PASSED_OVER, FELL_SHORT = "passed_over", "fell_short"
"""Counts in the receipt of a task's first unit: rows that its sample left out, and tasks or
categories of which it gave fewer problems than asked for."""
NEAR_DUPLICATES = "near_duplicates"
"""Count in the receipt of a unit: accepted rows that nearly repeat another row."""
_REASON = "rejected."


@dataclass(kw_only=True, slots=True)
class TaskCounts:
    """The committed rows of one task."""

    task: str
    input: int = 0
    accepted: int = 0
    rejected: int = 0
    passed_over: int = 0
    fell_short: int = 0
    near_duplicates: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Rejections by reason; those of receipts that do not say are missing."""

    def add(self, receipt: Receipt) -> None:
        counts = receipt.counts
        self.input += counts["input"]
        self.accepted += counts["accepted"]
        self.rejected += counts["rejected"]
        self.passed_over += counts.get(PASSED_OVER, 0)
        self.fell_short += counts.get(FELL_SHORT, 0)
        self.near_duplicates += counts.get(NEAR_DUPLICATES, 0)
        self.reasons.update(stated_reasons(receipt))

    @property
    def most_frequent(self) -> str:
        """The most frequent reason; empty if none is known."""
        return max(self.reasons, key=lambda reason: (self.reasons[reason], reason), default="")

    @property
    def sentence(self) -> str:
        """The counts in one line for people."""
        ordered = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        why = ", ".join(f"{num} {reason[:60]}" for reason, num in ordered)
        parts = [
            f"{self.task}: {self.input} rows read",
            f"{self.accepted} accepted",
            f"{self.rejected} rejected" + (f" ({why})" if why else ""),
        ]
        if self.near_duplicates:
            parts.append(
                f"{self.near_duplicates} of the accepted nearly repeat another row "
                "(near_duplicates.jsonl says which)"
            )
        if self.passed_over:
            parts.append(f"{self.passed_over} passed over by the sample")
        if self.fell_short:
            parts.append(
                f"{self.fell_short} of its samples gave fewer problems than asked for "
                "(`orca2 tasks` says which)"
            )
        return ", ".join(parts)


def task_of(receipt: Receipt) -> str:
    """The task of a unit of a stage that reads."""
    return receipt.unit.rpartition("-")[0]


def reason_counts(rejections: Iterable[Rejection]) -> dict[str, int]:
    """The counts by reason for a receipt."""
    found = Counter(rejection.reason for rejection in rejections)
    return {f"{_REASON}{reason}": num for reason, num in sorted(found.items())}


def stated_reasons(receipt: Receipt) -> dict[str, int]:
    """Reason -> rejections for it, as far as the receipt says."""
    return {
        name.removeprefix(_REASON): num
        for name, num in receipt.counts.items()
        if name.startswith(_REASON) and name.isprintable()  # a ledger may come from anywhere
    }


def counts_by_task(ledger: Ledger, stage: str) -> dict[str, TaskCounts]:
    """The TaskCounts of each task with a committed unit, by name.

    Raises:
        DamagedFile: a file of rejections that a receipt does not count by reason is damaged.
    """
    found: dict[str, TaskCounts] = {}
    for receipt in ledger.committed(stage):
        counts = found.setdefault(task_of(receipt), TaskCounts(task=task_of(receipt)))
        counts.add(receipt)
        if receipt.rejections is not None and not stated_reasons(receipt):
            rows = read_records(ledger.run_dir, receipt.rejections, Rejection)
            counts.reasons.update(row.reason for row in rows)
    return found


def example_of(ledger: Ledger, stage: str, task: str, reason: str) -> str:
    """The detail of one of the task's rejections for the reason; empty if there is none.

    Raises:
        DamagedFile: its file is damaged.
    """
    for receipt in ledger.committed(stage):
        may_have = reason in stated_reasons(receipt) or not stated_reasons(receipt)
        if task_of(receipt) == task and receipt.rejections is not None and may_have:
            rows = read_records(ledger.run_dir, receipt.rejections, Rejection)
            for row in rows:
                if row.reason == reason:
                    return row.detail
    return ""
