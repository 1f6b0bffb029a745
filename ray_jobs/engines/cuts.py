"""Units cut into parts, so that engines with nothing to do share a unit.

A race opens one block per group, and an engine takes a unit: with fewer units than engines, some
would be idle. What is committed is still the unit, merged from its parts once all are done; its
rows are the same. Pure: no engine, no clock.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
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

    def parts(self, unit: EngineUnit, num: int) -> list[EngineUnit]:
        """The unit as `num` parts of about equal size, or as many as it has problems."""
        num = min(num, unit.num_problems)
        if unit.part is not None or num < 2:
            return [unit]
        bounds = [unit.num_problems * place // num for place in range(num + 1)]
        ranges = list(itertools.pairwise(bounds))
        self.cuts[unit.name.unit] = Cut(unit=unit, left=ranges)
        return [
            dataclasses.replace(unit, part=Part(first=first, last=last)) for first, last in ranges
        ]

    def took(self, part: EngineUnit, receipt: Receipt) -> EngineUnit | None:
        """The unit to be merged, if this receipt was the last; a part of no cut counts nothing."""
        found = self.cuts.get(part.name.unit)
        if found is None or (ends := _range(part)) not in found.left:
            return None
        found.left.remove(ends)
        found.done.append(receipt)
        if found.left:
            return None
        merge = Part(first=0, last=0, is_merge=True, done=tuple(found.done))
        return dataclasses.replace(found.unit, part=merge)

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


def _range(unit: EngineUnit) -> Range:
    assert unit.part is not None
    return unit.part.first, unit.part.last
