"""The commands of `orca2` that only look: at task files and at run directories."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from orca2_gen.endings import FAILED
from orca2_gen.records import AnswerType, Problem


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "format_", default="jsonl", show_default=True, help="jsonl or gsm8k.")
@click.option("--split", default="train", show_default=True)
@click.option("--answer-type", type=click.Choice(["exact", "numeric", "multiple_choice"]))
@click.option("--show", default=3, show_default=True, help="Rejections to print per reason.")
def tasks(
    files: tuple[Path, ...], format_: str, split: str, answer_type: AnswerType | None, show: int
) -> None:
    """Read task FILES and print how many problems each holds and what was rejected, and why."""
    from orca2_gen.tasks import read_task

    for file in files:
        name = file.name.split(".")[0]
        reasons: Counter[str] = Counter()
        accepted = 0
        for row in read_task(file, name=name, format=format_, split=split, answer_type=answer_type):
            if isinstance(row, Problem):
                accepted += 1
                continue
            reasons[row.reason] += 1
            if reasons[row.reason] <= show:
                click.echo(f"  {row.problem_id} {row.reason}: {row.detail}")
        click.echo(
            f"{name}: {accepted} problems, {reasons.total()} rejected"
            + (f" {dict(reasons)}" if reasons else "")
        )


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
def verify(run_dir: Path) -> None:
    """Check a run directory: every file, every id's way, the proof of erasure."""
    from orca2_gen.tables import verification_table
    from orca2_gen.verify import verify as verify_run

    found = verify_run(run_dir)
    print_table(verification_table(found))
    for note in found.notes:
        click.echo(f"note: {note}")
    for finding in found.findings:
        click.echo(f"WRONG: {finding}")
    click.echo(
        f"{run_dir}: {len(found.findings)} faults" if found.findings else f"{run_dir}: whole"
    )
    sys.exit(FAILED if found.findings else 0)


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
def status(run_dir: Path) -> None:
    """Print what a run directory has committed and which strategies it selected."""
    from orca2_gen.ledger import STAGES, read_ledger
    from orca2_gen.tables import selection_table

    ledger = read_ledger(run_dir)
    if not ledger.units:
        raise ValueError(f"{run_dir} holds no committed unit; give the directory of a run")
    for stage in STAGES:
        if receipts := ledger.committed(stage):
            rows = sum(receipt.counts["accepted"] for receipt in receipts)
            rejected = sum(receipt.counts["rejected"] for receipt in receipts)
            click.echo(f"{stage}: {len(receipts)} units, {rows} rows, {rejected} rejected")
    print_table(selection_table(ledger))


def print_table(table: Any) -> None:
    """Prints a rich table, as wide as the terminal or, in a file, as its columns need."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 130).print(table)
