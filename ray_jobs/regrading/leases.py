"""What is handed to a Ray task that makes units of another run's completions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Receipt, UnitName
from orca2_gen.selection.blocks import Group, Rule

if TYPE_CHECKING:  # dispatch/leases.py imports this file
    from ray_jobs.dispatch.leases import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RegradeGroupLease:
    """A group's blocks of scores, to be made of another run's completions."""

    source: Path
    """The other run's directory."""
    group: Group
    rule: Rule
    problems: tuple[FileEntry, ...]
    """This run's, of the group."""
    stored: tuple[FileEntry, ...]
    """The other run's scores of the group, and its rejections."""
    made: tuple[tuple[int, Receipt], ...]
    """Blocks of this run that are there already, by index."""
    stage_key: str
    driver: str
    attempt: int = 1

    @property
    def what(self) -> str:
        return f"grading {self.group.name} of {self.source} anew"


@dataclass(frozen=True, kw_only=True, slots=True)
class RejudgeLease:
    """The scores of a block, to be read beside what another run's judge replied about them."""

    name: UnitName
    source: Path
    rows: Rows
    """The block's problems."""
    scores: FileEntry
    """This run's."""
    stored: tuple[FileEntry, ...]
    """The other run's judgements of the block, then the rejections if there are any."""

    @property
    def attempt(self) -> int:
        return self.name.attempt

    @property
    def what(self) -> str:
        return f"reading the judge's replies on {self.name.unit} of {self.source} again"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegradeEvaluationLease:
    """A unit of an evaluation, to be made of another run's."""

    name: UnitName
    source: Path
    problems: FileEntry
    """This run's."""
    stored: tuple[FileEntry, ...]
    """The other run's: the scores, then the rejections if there are any."""
    messages: tuple[str, ...]
    """The system messages that they must hold."""

    @property
    def attempt(self) -> int:
        return self.name.attempt

    @property
    def what(self) -> str:
        return f"grading {self.name.unit} of {self.source} anew"
