"""The leases of Ray tasks that make units from another run's completions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group, Rule, block_unit, most_blocks
from ray_jobs.dispatch.leases import Done, Rows

OlderProblems = tuple[FileEntry, ...] | None
"""The other run's problems, whose ids and prompts decide what is taken over; None if they are the
same as this run's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Older:
    """The other run's units by the groups of this run."""

    ledger: Ledger
    groups: Mapping[str, Set[str]] | None
    """Group here -> groups there that hold its problems; None if all problems are equal."""
    of_units: Mapping[str, Set[str]] | None = None
    """The same for units of problems; None too if all problems are equal."""

    def units(self, stage: str, group: str) -> list[Receipt]:
        """The other run's units of a stage that may hold rows of a group of this run."""
        names = {group} if self.groups is None else self.groups.get(group, ())
        return [r for r in self.ledger.committed(stage) if r.group in names]

    def taught(self, unit: str) -> list[Receipt]:
        """The other run's units of rationales that may hold answers to a unit of this run."""
        names = {unit} if self.of_units is None else self.of_units.get(unit, ())
        found = (self.ledger.units.get(("rationales", name)) for name in sorted(names))
        return [receipt for receipt in found if receipt is not None]

    def problems(self, group: str) -> OlderProblems:
        """The other run's problems that are compared with those of a group."""
        if self.groups is None:
            return None
        return tuple(receipt.accepted for receipt in self.units("problems", group))


@dataclass(frozen=True, kw_only=True, slots=True)
class RegradeGroupLease:
    """A group's blocks of scores, to make from another run's completions."""

    source: Path
    """The other run's directory."""
    group: Group
    rule: Rule
    problems: tuple[FileEntry, ...]
    """This run's problems of the group."""
    older_problems: OlderProblems
    stored: tuple[Receipt, ...]
    """The other run's units of scores of these problems."""
    made: tuple[tuple[int, Receipt], ...]
    """Index and receipt of each block that this run holds already."""
    stage_key: str
    driver: str
    attempt: int = 1

    @property
    def what(self) -> str:
        return f"regrading {self.group.name} of {self.source}"

    def again(self, done: Done) -> RegradeGroupLease:
        blocks = range(most_blocks(self.group, self.rule))
        names = enumerate(block_unit(self.group, index) for index in blocks)
        made = tuple((i, done["scores", name]) for i, name in names if ("scores", name) in done)
        return dataclasses.replace(self, attempt=self.attempt + 1, made=made)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedBlock:
    """The scores of a block and the replies of another run's judge about them."""

    source: Path
    """The other run's directory."""
    rows: Rows
    """The block's problems."""
    older_problems: OlderProblems
    scores: FileEntry
    """This run's scores of the block."""
    stored: tuple[Receipt, ...]
    """The other run's units of judgements that may hold the block's replies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtUnit:
    """A unit of problems and the answers of another run's teacher to them."""

    source: Path
    """The other run's directory."""
    problems: FileEntry
    """This run's problems of the unit."""
    selection: FileEntry
    """This run's selection for their group."""
    stored: tuple[Receipt, ...]
    """The other run's units of rationales that may hold the answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedUnit:
    """A unit of held-out problems and a model's answers to them in another run."""

    source: Path
    """The other run's directory."""
    problems: FileEntry
    """This run's problems of the unit."""
    older_problems: OlderProblems
    stored: tuple[Receipt, ...]
    """The other run's units that may hold the answers."""
    messages: tuple[str, ...]
    """Names of the system messages that they must hold."""
