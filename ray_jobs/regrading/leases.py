"""The leases of Ray tasks that make units from another run's completions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group, Rule, block_unit, most_blocks
from ray_jobs.dispatch.leases import Done, Rows

OlderProblems = tuple[FileEntry, ...] | None
"""The other run's problems, whose ids and prompts decide what is taken over; None if they are the
same as this run's."""


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
