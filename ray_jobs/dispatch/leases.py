"""What is handed to a Ray process: units' names, the committed files they start from, and nothing
else.

A lease carries no rows, so the driver's memory does not grow with the data. File stages take one
lease a Ray task; engines take a tuple of units as one lease and yield a receipt for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import Room
from orca2_gen.config.task import TaskConfig
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Receipt, UnitName
from orca2_gen.selection.blocks import Group, Rule, block_unit, most_blocks
from ray_jobs.regrading.leases import RegradeEvaluationLease, RegradeGroupLease, RejudgeLease

Rows = tuple[tuple[FileEntry, tuple[int, ...]], ...]
"""Problem files and the rows wanted of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadLease:
    """A task file, to be read into units of `rows_per_unit` rows."""

    task: TaskConfig
    rows_per_unit: int
    rooms: tuple[Room, ...]
    """Of every engine that will be asked these problems."""
    stage: str
    stage_key: str
    driver: str
    committed: frozenset[str]
    """Units that are not to be written again."""
    attempt: int = 1

    @property
    def what(self) -> str:
        return f"reading {self.task.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectLease:
    """A group whose blocks are all committed."""

    name: UnitName
    group: Group
    rule: Rule
    blocks: tuple[tuple[int, FileEntry], ...]

    @property
    def attempt(self) -> int:
        return self.name.attempt

    @property
    def what(self) -> str:
        return f"selecting for {self.group.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EraseLease:
    """A unit of rationales."""

    name: UnitName
    rationales: FileEntry

    @property
    def attempt(self) -> int:
        return self.name.attempt

    @property
    def what(self) -> str:
        return f"examples of {self.rationales.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceSoFar:
    """What the scores of a block are followed up with: who is still in depends on all blocks."""

    group: Group
    rule: Rule
    earlier: tuple[FileEntry, ...]
    """The scores of the blocks before, in order."""


FileLease = (
    ReadLease | SelectLease | EraseLease | RegradeGroupLease | RejudgeLease | RegradeEvaluationLease
)
Done = Mapping[tuple[str, str], Receipt]
"""(stage, unit) -> the receipt of what is committed, or about to be."""


def again(lease: FileLease, done: Done) -> FileLease | None:
    """The lease of a task that was lost, for the next attempt at what is not done; None where
    nothing is left.
    """
    if isinstance(lease, ReadLease):
        committed = frozenset(unit for stage, unit in done if stage == lease.stage)
        return dataclasses.replace(lease, attempt=lease.attempt + 1, committed=committed)
    if isinstance(lease, RegradeGroupLease):
        blocks = range(most_blocks(lease.group, lease.rule))
        names = enumerate(block_unit(lease.group, index) for index in blocks)
        made = tuple((i, done["scores", name]) for i, name in names if ("scores", name) in done)
        return dataclasses.replace(lease, attempt=lease.attempt + 1, made=made)
    if (lease.name.stage, lease.name.unit) in done:
        return None
    name = dataclasses.replace(lease.name, attempt=lease.name.attempt + 1)
    return dataclasses.replace(lease, name=name)


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
EngineLease = tuple[EngineUnit, ...]
