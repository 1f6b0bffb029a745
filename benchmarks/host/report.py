"""The outcomes of the steps -> the table for people and the document for machines."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.host.steps import Outcome

REPORT = "report.json"
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def document(outcomes: Sequence[Outcome], **about: Any) -> dict[str, Any]:
    """The document: what holds for the whole, then each step by name."""
    steps = {}
    for outcome in outcomes:
        told = dataclasses.asdict(outcome)
        steps[told.pop("step")] = told
    return about | {"steps": steps}


def write_report(out: Path, told: dict[str, Any]) -> None:
    """Writes the document so that a reader finds this one or the one before, whole."""
    partial = out / f"{REPORT}.partial"
    partial.write_text(json.dumps(told, indent=1) + "\n")
    os.replace(partial, out / REPORT)


def step_table(outcomes: Sequence[Outcome]) -> str:
    """How each step has ended, its seconds, and its figures but for nested documents.

    Plain text: a host that is lent for minutes may lack what draws tables.
    """
    lines = [_line("step", "ended", "s", "figures")]
    for outcome in outcomes:
        cells = [outcome.reason] if outcome.reason else []
        cells += [
            f"{name}: {shown(value)}"
            for name, value in outcome.figures.items()
            if name != "document"
        ]
        seconds = f"{outcome.seconds:.0f}" if outcome.seconds else ""
        first, *more = cells or [""]
        lines.append(_line(outcome.step, outcome.ended, seconds, first))
        lines += [_line("", "", "", cell) for cell in more]
    return "\n".join(lines)


def _line(step: str, ended: str, seconds: str, figures: str) -> str:
    return f"{step:18}{ended:10}{seconds:>5}  {figures}".rstrip()


def shown(value: Any) -> str:
    """A figure as a person reads it: large numbers by their thousands, nested ones in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(shown, value)) or "none"
    if value is None:
        return "-"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        for unit, letter in UNITS:
            if abs(value) >= unit:
                return f"{value / unit:.2f} {letter}"
    return str(value)
