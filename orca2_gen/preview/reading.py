"""The problems of a whole run, from those that its preview has read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.config.schema import Config
from orca2_gen.foresight.expected import Expected, total
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.selection.blocks import OPEN, Group
from orca2_gen.selection.decision import wilson_interval
from orca2_gen.tasks.counts import TaskCounts, counts_by_task, task_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The rows that the whole run reads."""

    config: Config
    ledger: Ledger
    num_rows: int

    def groups(self) -> list[Group]:
        """The selection groups that the preview shows, each as large as in the whole run."""
        shown: dict[str, Counter[str]] = {}
        judged: set[str] = set()
        for receipt in self.ledger.committed("problems"):
            in_task = shown.setdefault(task_of(receipt), Counter())
            in_task[receipt.group] += receipt.counts["accepted"]
            if receipt.counts.get(OPEN):
                judged.add(receipt.group)
        sizes: Counter[str] = Counter()
        for name, counts in counts_by_task(self.ledger, "problems").items():
            accepted = self._num_read(counts) * counts.accepted / max(1, counts.input)
            for group, num in shown[name].items():
                sizes[group] += round(accepted * num / max(1, counts.accepted))
        found = {group: num for group, num in sizes.items() if num}
        return [
            Group(name=name, num_problems=num, num_groups=len(found), is_judged=name in judged)
            for name, num in found.items()
        ]

    def problems(self) -> Expected:
        """The rows that are accepted."""
        parts = []
        for counts in counts_by_task(self.ledger, "problems").values():
            share = counts.accepted / max(1, counts.input)
            low, high = wilson_interval(share, counts.input)
            num_read = self._num_read(counts)
            if num_read == counts.input:  # all of them were read
                low = high = share
            parts.append(Expected(value=share, low=low, high=high).times(num_read))
        return total(parts)

    def notes(self, groups: Sequence[Group]) -> tuple[str, ...]:
        """What the numbers leave out."""
        by_category = [task.name for task in self.config.tasks if task.rows_per_category]
        lines = []
        if by_category:
            lines.append(f"rows_per_category of {', '.join(by_category)} is not counted")
        for counts in counts_by_task(self.ledger, "problems").values():
            limit, num = self._limit(counts), self._num_tasks(counts)
            if limit is not None and num > 1:
                lines.append(
                    f"{counts.task} is counted as if each of its {num:.0f} tasks had {limit} rows"
                )
        if (by := self.config.selection.select_by) != "task":
            lines.append(f"groups are of a {by}, and the preview shows {len(groups)} of them")
        return tuple(lines)

    def _num_read(self, counts: TaskCounts) -> float:
        """The rows of a task."""
        limit = self._limit(counts)
        num_rows = counts.input + counts.passed_over
        if limit is None:
            return num_rows
        return min(num_rows, limit * self._num_tasks(counts))

    def _limit(self, counts: TaskCounts) -> int | None:
        return next(t.rows_per_task for t in self.config.tasks if t.name == counts.task)

    def _num_tasks(self, counts: TaskCounts) -> float:
        """The tasks in a mixture, of each of which the preview has read as many rows."""
        return counts.input / min(self.num_rows, self._limit(counts) or self.num_rows)
