"""The outcomes of the steps -> the table for people and the document for machines."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

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


def step_table(outcomes: Sequence[Outcome], title: str) -> Table:
    """How each step has ended, its seconds, and its figures but for nested ones of figures."""
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("step", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("figures", overflow="fold")
    for outcome in outcomes:
        lines = [outcome.reason] if outcome.reason else []
        lines += [
            f"{name}: {shown(value)}"
            for name, value in outcome.figures.items()
            if name != "document"
        ]
        seconds = f"{outcome.seconds:.0f}" if outcome.seconds else ""
        table.add_row(outcome.step, outcome.ended, seconds, "\n".join(lines))
    return table


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
