"""What a stage has to do, as far as it is known when it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group, Rule


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitRows:
    """The rows of a unit that engines are asked for: answers under each strategy, or rationales."""

    num: int
    strategy: str = ""
    """The strategy of all of them; empty if there are several."""
    length: float = 1.0
    """Length of an answer, in any measure that is the same for all units of the stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownUnits:
    """Units that are all known, in the order in which engines get them."""

    units: Mapping[str, UnitRows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Races:
    """Groups whose races decide how many units there will be."""

    run_dir: Path
    groups: tuple[Group, ...]
    rule: Rule
    committed: tuple[Receipt, ...]
    """Blocks that are scored already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtUnits:
    """Units of rationales, in the order in which engines get them."""

    run_dir: Path
    units: Mapping[str, tuple[str, int]]
    """Unit -> its group and its problems."""
    selections: Mapping[str, FileEntry]
    """Group -> the file of its Selection."""


Amount = KnownUnits | TaughtUnits | Races | int | None
"""A number is of units; None is unknown."""


def num_units(amount: Amount) -> int | None:
    """The number of units to come; None if it is unknown."""
    if isinstance(amount, KnownUnits | TaughtUnits):
        return len(amount.units)
    return None if isinstance(amount, Races) else amount
