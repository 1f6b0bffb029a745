"""RUN/evaluation/LABEL-KEY.json: which model an evaluation asked, and under what.

The units alone name a label and a key, from which nobody learns whose weights answered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.json_files import parsed, read_json
from orca2_gen.run_directory.units import Receipt

STUDENT, TRAINED = "student", "trained"
"""Labels of the config's student and of the model that a run trains from it."""
_KEY_LETTERS = 8
_LONGEST_LABEL = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One evaluation of a model."""

    label: str
    stage_key: str
    model: str
    """Directory of the model; empty for a scripted engine."""
    model_key: str
    """Equal in evaluations whose answers differ by the message alone."""
    messages: Mapping[str, str]
    """Name of each message -> its text, in the order in which they are asked."""
    max_tokens: int
    """Most tokens of an answer."""
    judge: str = ""
    """Directory of the model that judges open answers; empty for a scripted one, or none."""
    judge_key: str = ""
    """Equal where the same judge was asked in the same way; empty without one."""


_ADAPTER = TypeAdapter(Evaluation)


def safe_label(name: str) -> str:
    """The name in characters that a file's name takes, cut to 60; `model` if none is left."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:_LONGEST_LABEL].strip("._-") or "model"


def distinct_label(name: str) -> str:
    """`safe_label`, which two names share only if they are equal."""
    label = safe_label(name)
    if label == name:
        return label
    return f"{label}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def unit_prefix(label: str, stage_key: str) -> str:
    """The start of the names of an evaluation's units."""
    return f"{label}-{stage_key[:_KEY_LETTERS]}-"


def label_of(receipt: Receipt) -> str:
    """The label in the name of a unit of an evaluation."""
    return receipt.unit.partition(unit_prefix("", receipt.stage_key))[0]


def write_about(run_dir: Path, evaluation: Evaluation) -> None:
    """Writes what an evaluation asks, durably; the same evaluation writes the same."""
    path = _path(run_dir, evaluation.label, evaluation.stage_key)
    body = json.dumps(dataclasses.asdict(evaluation), indent=2) + "\n"
    write_bytes(path, body.encode())


def read_about(run_dir: Path, label: str, stage_key: str) -> Evaluation | None:
    """What an evaluation asked; None if an older version made it, which wrote nothing.

    Raises:
        DamagedFile: the file holds something else.
    """
    path = _path(run_dir, label, stage_key)
    try:
        return parsed(path, read_json(path), _ADAPTER)
    except FileNotFoundError:
        return None


def _path(run_dir: Path, label: str, stage_key: str) -> Path:
    return run_dir / "evaluation" / f"{unit_prefix(label, stage_key).rstrip('-')}.json"
