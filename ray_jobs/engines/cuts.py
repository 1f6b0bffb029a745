"""Units cut into parts, so that engines with nothing to do share a unit.

A race opens one block per group, and an engine takes a unit: with fewer units than engines, some
would be idle. Cells of a block that are there before it opens (ahead.py) are parts too. What is
committed is still the unit, merged from its parts once all are done; its rows are the same. Pure:
no engine, no clock.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit, Part

Range = tuple[int, int]
"""Problems of a unit, from the first to before the last."""


@dataclass(kw_only=True, slots=True)
class Cut:
    """A unit whose parts are being worked on."""

    unit: EngineUnit
    left: list[Range]
    """Parts without a receipt."""
    done: list[Receipt] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Cuts:
    """The cut units of one stage."""

    cuts: dict[str, Cut] = field(default_factory=dict)
    """Name of a unit -> its cut."""
    merged: dict[str, tuple[Receipt, ...]] = field(default_factory=dict)
    """Name of a unit that is merged and not committed yet -> its parts."""

    def parts(self, unit: EngineUnit, num: int) -> list[EngineUnit]:
        """The unit as `num` parts of about equal size, or as many as it has problems."""
        num = min(num, unit.num_problems)
        if unit.part is not None or num < 2:
            return [unit]
        ranges = _even((0, unit.num_problems), num)
        self.cuts[unit.name.unit] = Cut(unit=unit, left=ranges)
        return [_part(unit, ends) for ends in ranges]

    def rest(
        self, unit: EngineUnit, covered: Mapping[Range, Receipt | None], num: int
    ) -> list[EngineUnit]:
        """The parts of a unit of which some ranges are done, or being worked on; perhaps its merge.

        Args:
            unit: whole unit.
            covered: ranges of its problems, in order -> the receipt, None if it is still to come.
            num: parts to make of the problems in between, at least one for each stretch.
        """
        bounds = [0, *(end for ends in covered for end in ends), unit.num_problems]
        gaps = [(first, last) for first, last in zip(bounds[::2], bounds[1::2], strict=True)]
        gaps = [(first, last) for first, last in gaps if first < last]
        numbers = spread([last - first for first, last in gaps], max(num, len(gaps)) if gaps else 0)
        ranges = [each for gap, n in zip(gaps, numbers, strict=True) for each in _even(gap, n)]
        cut = Cut(
            unit=unit,
            left=ranges + [ends for ends, receipt in covered.items() if receipt is None],
            done=[receipt for receipt in covered.values() if receipt is not None],
        )
        self.cuts[unit.name.unit] = cut
        return [_part(unit, ends) for ends in ranges] if cut.left else [_merge(cut)]

    def took(self, name: str, ends: Range, receipt: Receipt) -> EngineUnit | None:
        """The unit to be merged, if this receipt was the last; a part of no cut counts nothing.

        Args:
            name: name of the unit.
            ends: the part's range of its problems.
            receipt: the part's; it may cover more than that.
        """
        found = self.cuts.get(name)
        if found is None or ends not in found.left:
            return None
        found.left.remove(ends)
        found.done.append(receipt)
        return None if found.left else _merge(found)

    def give_up(self, name: str) -> Cut | None:
        """The cut of this unit, which is none from now on; None if it is none already."""
        return self.cuts.pop(name, None)


def spread(sizes: Sequence[int], num_parts: int) -> list[int]:
    """The number of parts of each unit, so that the largest part is as small as it can be.

    Args:
        sizes: problems of each unit.
        num_parts: parts in all, at least one for each unit; there are fewer if the units have fewer
            problems.
    """
    found = [1] * len(sizes)
    for _ in range(num_parts - len(sizes)):
        place = max(range(len(sizes)), key=lambda place: sizes[place] / found[place])
        if found[place] >= sizes[place]:
            break
        found[place] += 1
    return found


def range_of(unit: EngineUnit) -> Range:
    """The range of a part."""
    assert unit.part is not None
    return unit.part.first, unit.part.last


def _even(ends: Range, num: int) -> list[Range]:
    """A range cut into `num` of about equal size."""
    first, last = ends
    bounds = [first + (last - first) * place // num for place in range(num + 1)]
    return list(itertools.pairwise(bounds))


def _part(unit: EngineUnit, ends: Range) -> EngineUnit:
    return dataclasses.replace(unit, part=Part(first=ends[0], last=ends[1]))


def _merge(cut: Cut) -> EngineUnit:
    merge = Part(first=0, last=0, is_merge=True, done=tuple(cut.done))
    return dataclasses.replace(cut.unit, part=merge)
