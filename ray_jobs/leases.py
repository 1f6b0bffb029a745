"""What is handed to a Ray process: a unit's name, the committed files it starts from, and nothing
else.

A lease carries no rows, so the driver's memory does not grow with the data.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca2_gen.config_schema import TaskConfig
from orca2_gen.ledger import UnitName
from orca2_gen.lengths import Room
from orca2_gen.selection import Group, Rule
from orca2_gen.shards import FileEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadLease:
    """A task file, to be read into units of `rows_per_unit` rows."""

    task: TaskConfig
    rows_per_unit: int
    rooms: tuple[Room, ...]
    """Of every engine that will be asked these problems."""
    stage: str
    stage_key: str
    committed: frozenset[str]
    """Units that are not to be written again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreLease:
    """Problems to be scored under some system messages: one block of the race, or a part of an
    evaluation.
    """

    name: UnitName
    rows: tuple[tuple[FileEntry, tuple[int, ...]], ...]
    """Problem files and the rows wanted of each."""
    strategies: tuple[str, ...]
    role: str
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectLease:
    """A group whose blocks are all committed."""

    name: UnitName
    group: Group
    rule: Rule
    blocks: tuple[tuple[int, FileEntry], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachLease:
    """A range of problems of one task and the file with its Selection."""

    name: UnitName
    problems: FileEntry
    selection: FileEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class EraseLease:
    """A unit of rationales."""

    name: UnitName
    rationales: FileEntry


Lease = ReadLease | ScoreLease | SelectLease | TeachLease | EraseLease
EngineLease = ScoreLease | TeachLease
