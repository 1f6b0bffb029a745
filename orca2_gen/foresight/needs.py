"""What a whole run takes and gives, as far as it is known before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from orca2_gen.foresight.expected import Expected


@dataclass(frozen=True, kw_only=True, slots=True)
class StageNeeds:
    """What one stage of the whole run takes."""

    stage: str
    rows: Expected
    """Rows that engines are asked for: answers under each strategy, judgements, rationales."""
    requests: Expected
    """Requests for them: further calls, second attempts and forced endings included."""
    prompt_tokens: Expected
    generated_tokens: Expected
    engine_seconds: Expected | None
    """Seconds of one engine; None if its speed is unknown."""
    seconds: Expected | None
    """Seconds of the stage on all of its engines, their starts included."""
    num_bytes: float
    """Bytes of its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRun:
    """What a run takes and gives."""

    stages: tuple[StageNeeds, ...]
    """The stages with engines, in their order."""
    rows: Expected
    """Of its dataset."""
    dataset_bytes: float
    """Bytes of the problems, the examples and the dataset."""
    notes: tuple[str, ...]
    """What is not counted, for people."""
