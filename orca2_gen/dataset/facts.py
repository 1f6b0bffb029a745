"""The facts of a run that its dataset's card tells: they stand in the manifest, as they are here.

`provenance/run_facts.py` derives them from a run directory, for the driver and for `verify` alike.
Nothing here is a path of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """A model that the run asked, or encoded rows for."""

    role: str
    """student, teacher or judge."""
    name: str
    """The last part of its directory's path."""
    engine: str
    """vllm, or scripted for a rehearsal without a model."""
    digest: str
    """Digest of the weights; empty if the run asked it nothing."""
    tokenizer: str
    """Digest of the tokenizer's files; empty if no stage recorded it."""
    license: str
    """Empty if it is not stated."""
    license_from: str
    """config, model card, a file of the model, or empty."""
    arguments: dict[str, Any]
    """What else determines its completions: number formats, the most tokens of a thought."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFacts:
    """A task of the config, and what became of its rows."""

    task: str
    file: str
    """The last part of the path of its file, or of its directory of files."""
    format: str
    split: str
    sha256: str
    license: str
    """Empty if it is not stated."""
    language: str
    """Empty if it is not stated."""
    read: int
    accepted: int
    rejected: int
    passed_over: int
    """Rows that its sample left out; they are not among those read."""
    near_duplicates: int
    """Accepted rows that nearly repeat another row."""
    reasons: dict[str, int]
    """Rows rejected when they were read, by reason."""
    taught: int
    """Rationales that were accepted."""
    rows: int
    """Rows in the dataset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutFacts:
    """A file of problems that the rows were compared with."""

    name: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiesFacts:
    """The search for copies among the rows."""

    duplicates: bool
    """Whether rows that repeat one another were rejected."""
    contamination: bool
    """Whether rows that repeat a held-out one were."""
    near: str
    """remove, if near-duplicates were rejected; else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageFacts:
    """The committed rows of a stage."""

    stage: str
    input: int
    accepted: int
    rejected: int
    refused: int
    """Answers of the teacher that were refused and are stored beside the accepted ones."""
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceFacts:
    """The strategy chosen for a group."""

    group: str
    strategy: str
    reason: str
    score: float | None
    """Mean score of the chosen strategy; None if none was asked for."""
    margin: float | None
    """Its lead over the best other one; below 0 where a cheaper one was taken within the
    indifference. None if there is no other with a score."""
    num_scored_problems: int
    num_problems: int
    fragile: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a run says of the dataset that it made."""

    date: str
    """The run's first day, or the day that templates were told."""
    models: tuple[ModelFacts, ...]
    sources: tuple[SourceFacts, ...]
    held_out: tuple[HeldOutFacts, ...]
    copies: CopiesFacts | None
    """None if no row was rejected as a copy."""
    sampling: dict[str, Any]
    """Key of the teacher's sampling -> its value."""
    stages: tuple[StageFacts, ...]
    choices: tuple[ChoiceFacts, ...]
    settings: dict[str, Any]
    """The settings that determine rows, without paths."""
    versions: tuple[tuple[tuple[str, str], ...], ...] = field(default=())
    """The packages and versions of each kind of environment that engines worked in."""
