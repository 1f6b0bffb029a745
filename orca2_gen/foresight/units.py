"""The work that is left of units that are all known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from orca2_gen.foresight.amounts import KnownUnits, TaughtUnits, UnitRows
from orca2_gen.records import Selection
from orca2_gen.run_directory.arrow_files import read_records

FEWEST_ROWS = 16
"""Rows of a strategy from which its tokens are told; those of all strategies serve before."""


def known_units(taught: TaughtUnits) -> KnownUnits:
    """The units of rationales as known ones: where the student's answers are long, theirs are too.

    Raises:
        OSError, ValueError: a Selection cannot be read.
    """
    strategies: dict[str, str] = {}
    lengths: dict[str, float] = {}
    for group, entry in taught.selections.items():
        [selection] = read_records(taught.run_dir, entry, Selection)
        strategies[group] = selection.strategy
        for summary in selection.summaries:
            if summary.strategy == selection.strategy and summary.mean_completion_tokens:
                lengths[group] = summary.mean_completion_tokens
    usual = sum(lengths.values()) / len(lengths) if lengths else 1.0
    return KnownUnits(
        units={
            unit: UnitRows(num=num, strategy=strategies[group], length=lengths.get(group, usual))
            for unit, (group, num) in taught.units.items()
        }
    )


class UnitsLeft:
    """The units of a stage that are not committed, in the order in which engines get them."""

    def __init__(self, known: KnownUnits) -> None:
        self._left = dict(known.units)
        # Where a unit has several strategies, rows are not told apart by them.
        self._is_by_strategy = all(rows.strategy for rows in known.units.values())
        self.committed: Counter[str] = Counter()
        """Strategy -> rows that are committed; all under "" where units have several."""
        self._lengths: Counter[str] = Counter()
        """Strategy -> the lengths of its committed rows together."""

    def add(self, unit: str) -> None:
        """Takes in a committed unit."""
        if (rows := self._left.pop(unit, None)) is not None:
            self.committed[rows.strategy] += rows.num
            self._lengths[rows.strategy] += rows.num * rows.length  # type: ignore[assignment]

    def tokens(
        self,
        answered: Mapping[str, int],
        spent: Mapping[str, float],
        lost: Mapping[str, int] = MappingProxyType({}),
    ) -> tuple[float, float]:
        """The tokens of all units left, and those that engines have spent on them already.

        Args:
            answered: strategy -> rows that engines have answered since the stage began.
            spent: strategy -> tokens of their requests.
            lost: strategy -> rows among them that died with their engine.
        """
        if not self._is_by_strategy:
            answered, spent = {"": sum(answered.values())}, {"": sum(spent.values())}
            lost = {"": sum(lost.values())}
        # Lost rows have no place among the units, so their tokens have none either.
        spent = {
            name: tokens * (1 - lost.get(name, 0) / max(1, answered[name]))
            for name, tokens in spent.items()
        }
        begun = {
            name: self._begun(name, num) for name, num in self.uncommitted(answered, lost).items()
        }
        lengths = {name: begun[name] + self._lengths[name] for name in answered}
        every = sum(spent.values()) / max(1e-9, sum(lengths.values()))
        per_length = {
            name: spent[name] / lengths[name]
            for name, num in answered.items()
            if num >= FEWEST_ROWS and lengths[name]
        }
        left = sum(
            rows.num * rows.length * per_length.get(rows.strategy, every)
            for rows in self._left.values()
        )
        return left, sum(num * per_length.get(name, every) for name, num in begun.items())

    def uncommitted(self, answered: Mapping[str, int], lost: Mapping[str, int]) -> dict[str, int]:
        """Strategy -> answered rows in units that are not committed; "" where units have several.

        Args:
            answered: strategy -> rows that engines have answered since the stage began.
            lost: strategy -> rows among them that died with their engine.
        """
        if not self._is_by_strategy:
            answered, lost = {"": sum(answered.values())}, {"": sum(lost.values())}
        return {
            name: max(0, num - self.committed[name] - lost.get(name, 0))
            for name, num in answered.items()
        }

    def _begun(self, strategy: str, num: int) -> float:
        """The lengths together of the first so many rows left of a strategy."""
        total = 0.0
        for rows in self._of(strategy):
            if num <= 0:
                break
            total += min(num, rows.num) * rows.length
            num -= rows.num
        return total

    def _of(self, strategy: str) -> list[UnitRows]:
        return [rows for rows in self._left.values() if rows.strategy == strategy]
