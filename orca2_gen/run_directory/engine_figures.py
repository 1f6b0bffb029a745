"""RUN/engines/NAME.START.json: what an engine has done and does, written by it every few seconds.

The files are for people: no row and no key depends on them. One is left for each start of an
engine, so that what a run cost is known after it has ended, however it ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

FOLDER = "engines"
"""Folder of a run directory for the engines' logs and figures."""
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Finished requests of one strategy."""

    requests: int = 0
    truncated: int = 0
    """Those that ended at their limit of tokens."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the engine took from its prefix cache."""
    completion_tokens: int = 0
    seconds: float = 0.0
    """Seconds from each request to its end, added up: many are open at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFigures:
    """One start of an engine."""

    start: str
    """Id of the start, as in the engine's log."""
    stage: str
    model: str
    """Name of the model's directory."""
    replica: int
    node: str
    num_gpus: int = 0
    gpu: str = ""
    """Model of its GPUs."""
    seconds: float = 0.0
    """Seconds since it had its devices."""
    start_seconds: float | None = None
    """Seconds of them until it had generated its first token; None before that."""
    busy_seconds: float = 0.0
    """Seconds with a request open since then."""
    num_open: int = 0
    """Requests that it has been asked and has not answered."""
    num_running: int = 0
    """Those in its batch, where the engine tells."""
    cache_usage: float = 0.0
    """Share of its KV cache in use, where the engine tells."""
    preemptions: int = 0
    generated_tokens: int = 0
    """Tokens of all requests, unfinished ones included."""
    has_ended: bool = False
    """Whether it was closed; an engine that was killed could not say so."""
    answers: Mapping[str, Answers] = field(default_factory=dict)
    """Strategy -> its finished requests."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Strategy -> rows that it has answered, each with all of its requests."""
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Strategy -> what became of those rows -> their number: a score's outcome, and `forced` beside
    it; `accepted` or `rejected` for a problem that was taught, and `refused` for each attempt."""

    @property
    def device_seconds(self) -> float:
        """Seconds for which it had its devices, times their number."""
        return self.seconds * max(1, self.num_gpus)


_FIGURES = TypeAdapter(EngineFigures)


def figures_path(run_dir: Path, name: str, start: str) -> Path:
    """The file of one start of an engine of this name."""
    return run_dir / FOLDER / f"{name}.{start}.json"


def write_figures(path: Path, figures: EngineFigures) -> None:
    """Writes the file in one step for readers; where it cannot be written, nothing happens."""
    growing = path.with_name(f".{path.name}.tmp")
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        growing.write_text(json.dumps(dataclasses.asdict(figures)) + "\n", encoding="utf-8")
        os.replace(growing, path)


def read_figures(run_dir: Path, without: Collection[str] = ()) -> dict[str, EngineFigures]:
    """Start -> its figures, by the names of their files; what cannot be read is left out.

    Args:
        run_dir: the run.
        without: starts whose files are not even opened.
    """
    found: dict[str, EngineFigures] = {}
    paths: list[Path] = []
    with suppress(OSError):  # of a file system that is away for a moment
        paths = sorted((run_dir / FOLDER).glob("*.json"))
    for path in paths:
        if path.suffixes and path.stem.rpartition(".")[2] in without:
            continue
        with suppress(OSError, UnusableFile, ValidationError):
            figures = _FIGURES.validate_json(read_regular(path, _MOST_BYTES))
            found[figures.start] = figures
    return found
