"""The leases of Ray processes: names of units and the committed files that they start from.

A lease carries no rows, so the driver's memory does not grow with the data. A Ray task takes one
FileLease; an engine takes a tuple of EngineUnits as one lease and yields a receipt for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import Room
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.schema import RationalesConfig
from orca2_gen.config.task import TaskConfig
from orca2_gen.rationales import Asking
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import Group, Rule

Rows = tuple[tuple[FileEntry, tuple[int, ...]], ...]
"""Problem files and the rows wanted from each."""
Done = Mapping[tuple[str, str], Receipt]
"""(stage, unit) -> the receipt of a unit that is committed, or about to be."""
MadeFrom = TypeVar("MadeFrom")


class FileLease(Protocol):
    """The work of one Ray task, which can make the lease of its next attempt."""

    @property
    def attempt(self) -> int: ...

    @property
    def what(self) -> str:
        """The work, named for people."""

    def again(self, done: Done) -> FileLease | None:
        """The lease of the next attempt at what is not done; None if nothing is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitLease(Generic[MadeFrom]):
    """One unit and the files it is made from."""

    name: UnitName
    made_from: MadeFrom
    what: str
    """The work, named for people."""

    @property
    def attempt(self) -> int:
        return self.name.attempt

    def again(self, done: Done) -> UnitLease[MadeFrom] | None:
        if (self.name.stage, self.name.unit) in done:
            return None
        name = dataclasses.replace(self.name, attempt=self.name.attempt + 1)
        return dataclasses.replace(self, name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadLease:
    """A task file to read into units of `rows_per_unit` rows."""

    task: TaskConfig
    rows_per_unit: int
    rooms: tuple[Room, ...]
    """Rooms of every engine that will be asked these problems."""
    stage: str
    stage_key: str
    driver: str
    committed: frozenset[str]
    """Units that are not written again."""
    copies: Path | None = None
    """Folder of each task's matches (tasks/copies.py); None if copies are problems like others."""
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
    """The race before a block: all blocks together decide which strategies are still in."""

    group: Group
    rule: Rule
    first: int
    """Problems that are scored in the earlier blocks."""
    earlier: tuple[FileEntry, ...]
    """Scores of the earlier blocks, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The part of a unit to work on: engines share the unit (cuts.py), it is worked on before its
    block opens (ahead.py), or it has killed an engine (suspects.py).
    """

    first: int
    last: int
    """Problems `first` to `last` (exclusive) in the unit's order."""
    is_merge: bool = False
    """Whether to make the unit from `done` and `lost`, without work on a problem."""
    done: tuple[Receipt, ...] = ()
    """Receipts of the parts already made, which may hold more than the unit's rows (ahead.py)."""
    lost: tuple[int, ...] = ()
    """Problems that kill every engine, to be rejected."""


def _num_asked(part: Part | None, num_problems: int) -> int:
    """The number of problems that an engine is asked about."""
    return num_problems if part is None else part.last - part.first


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreUnit:
    """Problems to score under some system messages: a block, or a unit of an evaluation."""

    name: UnitName
    rows: Rows
    strategies: tuple[str, ...]
    role: str
    budget: Budget
    race: RaceSoFar | None = None
    """None if no strategy can drop out."""
    room: Room | None = None
    """Room that each problem is measured in before it is asked; None if its reader has done so for
    this engine."""
    part: Part | None = None
    """None means the whole unit."""

    @property
    def num_problems(self) -> int:
        return sum(len(rows) for _, rows in self.rows)

    @property
    def num_requests(self) -> int:
        return _num_asked(self.part, self.num_problems) * len(self.strategies)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeUnit:
    """The scores of a block, some of whose answers may wait for the judge."""

    name: UnitName
    rows: Rows
    """The block's problems."""
    scores: FileEntry
    """Scores under each strategy of each of these problems that killed no engine."""
    strategies: tuple[str, ...]
    budget: Budget
    """Budget of the judge."""
    room: Room | None = None
    """Room of the judge, if it is not yet known that the problems fit in it."""
    part: Part | None = None

    @property
    def num_problems(self) -> int:
        return self.scores.rows // len(self.strategies)

    @property
    def num_requests(self) -> int:
        return _num_asked(self.part, self.num_problems) * len(self.strategies)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachUnit:
    """A range of problems of one task and the file with its Selection."""

    name: UnitName
    problems: FileEntry
    selection: FileEntry
    stored: FileEntry | None = None
    """Another run's answers to some of the attempts (run_directory/stored_answers.py), which are
    taken instead of asked for; None if there are none."""
    stored_engine: str = ""
    """The engine that generated these answers, as far as it is known."""
    part: Part | None = None

    @property
    def num_problems(self) -> int:
        return self.problems.rows

    @property
    def num_requests(self) -> int:
        return _num_asked(self.part, self.num_problems)


def asking_of(rationales: RationalesConfig, teacher: EngineConfig, run_seed: int) -> Asking:
    """How the teacher is asked for rationales."""
    return Asking(
        **rationales.model_dump(exclude={"keep_refused"}),
        max_model_len=teacher.max_model_len,
        run_seed=run_seed,
        thinking_tokens=teacher.thinking_tokens,
    )


EngineUnit = ScoreUnit | JudgeUnit | TeachUnit
