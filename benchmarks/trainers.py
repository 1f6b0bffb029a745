"""Does every trainer train a dataset of ours right, which knows nothing of us?

Each foreign trainer gets a pinned environment of its own, made from the package index, opens the
dataset directory or an export of it, and trains two steps. The table says how many rows and trained
tokens it saw, and the loss of its first step beside that of our own trainer on the same rows in the
same order. The last line on stdout is one JSON document.

    python -m benchmarks.trainers [--dataset DIR] [--model DIR] [--out DIR] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.foreign.ours import STUDENT, OwnTrainer, make_dataset
from benchmarks.foreign.trials import TRIALS, Outcome, run_trial

ROWS_PER_TASK = 4


def table_of(outcomes: Sequence[Outcome], own: OwnTrainer) -> Table:
    """The table that a person reads."""
    table = Table(
        title=f"{len(own.rows)} rows, {own.trained_tokens} trained tokens in the manifest"
    )
    columns = ("trainer", "version", "opened", "rows", "trained", "first loss", "ours", "verdict")
    for column in columns:
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        versions = " ".join(f"{name} {version}" for name, version in outcome.versions.items())
        verdict = f"{outcome.verdict}: {outcome.note}" if outcome.note else outcome.verdict
        table.add_row(
            outcome.name,
            versions,
            outcome.opened,
            *(_shown(each) for each in (outcome.rows, outcome.trained_tokens)),
            *(_shown(each) for each in (outcome.first_loss, outcome.our_loss)),
            verdict,
        )
    return table


def _shown(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.4f}" if isinstance(figure, float) else str(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if every trainer that was tried is equal, or known to be otherwise."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.trainers", description="Do foreign trainers train our rows right?"
    )
    parser.add_argument("--dataset", type=Path, help="a RUN/dataset; a small one is made without")
    parser.add_argument("--model", type=Path, default=STUDENT, help="its student, with ChatML")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/trainers"), help="environments, logs"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[trial.name for trial in TRIALS]
    )
    options = parser.parse_args(arguments)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # Only the figures are for stdout.
    told = Console(stderr=True)
    dataset = options.dataset or make_dataset(out / "run", ROWS_PER_TASK)
    try:
        own = OwnTrainer(dataset, options.model)
    except ValueError as error:
        parser.error(str(error))
    outcomes = []
    for trial in TRIALS:
        if options.only and trial.name not in options.only:
            continue
        told.print(f"{trial.name} ...")
        outcomes.append(run_trial(trial, dataset.resolve(), options.model.resolve(), out, own))
    Console(width=200).print(table_of(outcomes, own))
    print(
        json.dumps(
            {
                "rows": len(own.rows),
                "trained_tokens": own.trained_tokens,
                "equal": sum(outcome.verdict == "equal" for outcome in outcomes),
                "trainers": [dataclasses.asdict(outcome) for outcome in outcomes],
            }
        )
    )
    return int(any(outcome.is_fault for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
