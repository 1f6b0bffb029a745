"""The work that is left of units that are all known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from orca2_gen.foresight.amounts import KnownUnits, UnitRows

FEWEST_ROWS = 16
"""Rows of a strategy from which its tokens are told; those of all strategies serve before."""


class UnitsLeft:
    """The units of a stage that are not committed, in the order in which engines get them."""

    def __init__(self, known: KnownUnits) -> None:
        self._left = dict(known.units)
        # Where a unit has several strategies, rows are not told apart by them.
        self._is_by_strategy = all(rows.strategy for rows in known.units.values())
        self._rows: Counter[str] = Counter()
        self._lengths: Counter[str] = Counter()
        """Strategy -> the lengths of its committed rows together."""

    def add(self, unit: str) -> None:
        """Takes in a committed unit."""
        if (rows := self._left.pop(unit, None)) is not None:
            self._rows[rows.strategy] += rows.num
            self._lengths[rows.strategy] += rows.num * rows.length  # type: ignore[assignment]

    def tokens(
        self, answered: Mapping[str, int], spent: Mapping[str, float]
    ) -> tuple[float, float]:
        """The tokens of all units left, and those that engines have spent on them already.

        Args:
            answered: strategy -> rows that engines have answered since the stage began.
            spent: strategy -> tokens of their requests.
        """
        if not self._is_by_strategy:
            answered, spent = {"": sum(answered.values())}, {"": sum(spent.values())}
        begun = {name: self._begun(name, num - self._rows[name]) for name, num in answered.items()}
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
