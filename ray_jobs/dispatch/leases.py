"""What goes to a Ray process: the names of units and the committed files they start from.

A lease carries no rows, so the driver's memory does not grow with the data. A Ray task takes one
FileLease; an engine takes a tuple of EngineUnits as one lease and yields a receipt for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import Room
from orca2_gen.config.task import TaskConfig
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Receipt, UnitName
from orca2_gen.selection.blocks import Group, Rule

Rows = tuple[tuple[FileEntry, tuple[int, ...]], ...]
"""Problem files and the rows wanted of each."""
Done = Mapping[tuple[str, str], Receipt]
"""(stage, unit) -> the receipt of what is committed, or about to be."""
UnitInputs = TypeVar("UnitInputs")


class FileLease(Protocol):
    """Work of one Ray task, which knows how to be tried again."""

    @property
    def attempt(self) -> int: ...

    @property
    def what(self) -> str:
        """Names the work for people."""

    def again(self, done: Done) -> FileLease | None:
        """The lease for the next attempt at what is not done; None where nothing is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitLease(Generic[UnitInputs]):
    """One unit and the files it is made from."""

    name: UnitName
    inputs: UnitInputs
    what: str
    """Names the work for people."""

    @property
    def attempt(self) -> int:
        return self.name.attempt

    def again(self, done: Done) -> UnitLease[UnitInputs] | None:
        if (self.name.stage, self.name.unit) in done:
            return None
        name = dataclasses.replace(self.name, attempt=self.name.attempt + 1)
        return dataclasses.replace(self, name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadLease:
    """A task file, to be read into units of `rows_per_unit` rows."""

    task: TaskConfig
    rows_per_unit: int
    rooms: tuple[Room, ...]
    """Rooms of every engine that will be asked these problems."""
    stage: str
    stage_key: str
    driver: str
    committed: frozenset[str]
    """Units that are not written again."""
    attempt: int = 1

    @property
    def what(self) -> str:
        return f"reading {self.task.path}"

    def again(self, done: Done) -> ReadLease:
        committed = frozenset(unit for stage, unit in done if stage == self.stage)
        return dataclasses.replace(self, attempt=self.attempt + 1, committed=committed)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecidedGroup:
    """A group whose blocks are all committed."""

    group: Group
    rule: Rule
    blocks: tuple[tuple[int, FileEntry], ...]
    """Index and scores of each block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceSoFar:
    """What the scores of a block are followed up with: who is still in depends on all blocks."""

    group: Group
    rule: Rule
    earlier: tuple[FileEntry, ...]
    """The scores of the blocks before, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What of a unit is worked on now, after it has killed an engine: suspects.py makes these."""

    first: int
    last: int
    """Problems `first` to `last` (exclusive) in the unit's order."""
    is_merge: bool = False
    """No problem is worked on: the unit is put together from `done` and `lost`."""
    done: tuple[Receipt, ...] = ()
    """Parts already worked on."""
    lost: tuple[int, ...] = ()
    """Problems that kill every engine: rejected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreUnit:
    """Problems to be scored under some system messages: one block of the race, or a part of an
    evaluation.
    """

    name: UnitName
    rows: Rows
    strategies: tuple[str, ...]
    role: str
    budget: Budget
    race: RaceSoFar | None = None
    """None where no strategy can fall."""
    part: Part | None = None
    """None works on the whole unit."""

    @property
    def num_problems(self) -> int:
        return sum(len(rows) for _, rows in self.rows)

    @property
    def num_requests(self) -> int:
        return self.num_problems * len(self.strategies)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeUnit:
    """The scores of a block, some of whose answers may wait for the judge."""

    name: UnitName
    rows: Rows
    """The block's problems."""
    scores: FileEntry
    """Of each of them that no engine was lost on, under each of the strategies."""
    strategies: tuple[str, ...]
    budget: Budget
    """The judge's."""
    part: Part | None = None

    @property
    def num_problems(self) -> int:
        return self.scores.rows // len(self.strategies)

    @property
    def num_requests(self) -> int:
        return self.scores.rows


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachUnit:
    """A range of problems of one task and the file with its Selection."""

    name: UnitName
    problems: FileEntry
    selection: FileEntry
    part: Part | None = None

    @property
    def num_problems(self) -> int:
        return self.problems.rows

    @property
    def num_requests(self) -> int:
        return self.num_problems


EngineUnit = ScoreUnit | JudgeUnit | TeachUnit
