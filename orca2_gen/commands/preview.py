"""`orca2 preview`: the whole path on a few problems, before anyone pays for a night."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca2_gen.commands.options import PATH, config_argument, set_option
from orca2_gen.commands.preflight import asked_inputs
from orca2_gen.commands.printing import print_cost, print_selections, print_steps, print_table
from orca2_gen.config.load import load_config, read_config
from orca2_gen.run_directory.ledger import read_ledger

if TYPE_CHECKING:
    from orca2_gen.config.schema import Config
    from orca2_gen.run_directory.ledger import Ledger
    from orca2_gen.selection.blocks import Rule

MOST_SHOWN = 24
"""Problems whose whole way is printed."""


@click.command()
@config_argument
@set_option
@click.option(
    "--rows", default=3, show_default=True, type=click.IntRange(1, 100), help="Problems of a task."
)
@click.option(
    "--into",
    type=PATH,
    help="Directory of the preview.  [default: RUN_DIR-preview, or the next -preview-2, ...]",
)
def preview(config_file: Path, overrides: tuple[str, ...], rows: int, into: Path | None) -> None:
    """Make a few rows of each task of CONFIG, show them, and tell what the run would take.

    It is a run like any other, with CONFIG's own models, each started once, and stays in a
    directory of its own. It prints prompts, answers under every strategy with their grades, the
    teacher's answers, and the rows as they would train.
    """
    from orca2_gen.config.arguments import roles_of_run, selection_rule
    from orca2_gen.console.progress import shown
    from orca2_gen.preview.config import preview_config, preview_directory
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    run_dir = into or preview_directory(read_config(config_file, overrides).run_dir)
    run_dir = run_dir.absolute()
    config = load_config(config_file, (*overrides, f"run_dir={run_dir}"))
    small = preview_config(config, rows)
    inputs = asked_inputs(small)
    with open_run(small, shown(run_dir), roles=roles_of_run(small), inputs=inputs) as opened:
        summary = run_all(opened)
        rule = selection_rule(config, opened.inputs.strategies)
    ledger = read_ledger(run_dir)
    ids = _problems(ledger, rows)
    for problem_id in ids[:MOST_SHOWN]:  # each is looked for in every file
        print_steps(run_dir, problem_id)
    if len(ids) > MOST_SHOWN:
        click.echo(
            f"{len(ids) - MOST_SHOWN} more problems: orca2 trace {run_dir} ID, e.g. of "
            f"{ids[MOST_SHOWN]}"
        )
    print_selections(ledger)
    print_cost(ledger, with_strategies=True)
    click.echo(f"{summary.rows} rows, in {summary.directory}")
    _print_needs(config, rule, ledger, rows)
    click.echo(f"a page about it: orca2 report {run_dir}")


def _problems(ledger: Ledger, num_rows: int) -> list[str]:
    """The ids of up to so many problems of each task, the first of every task before others."""
    from orca2_gen.records import Problem
    from orca2_gen.run_directory.ledger import committed_rows

    by_task: dict[str, list[str]] = {}
    for problem in committed_rows(ledger, "problems", Problem):
        by_task.setdefault(problem.task, []).append(problem.problem_id)
    return [ids[place] for place in range(num_rows) for ids in by_task.values() if place < len(ids)]


def _print_needs(config: Config, rule: Rule, ledger: Ledger, num_rows: int) -> None:
    from orca2_gen.console.needs import needs_lines, needs_table
    from orca2_gen.preview.whole_run import whole_run
    from orca2_gen.run_directory.engine_figures import read_figures

    found = whole_run(config, rule, ledger, read_figures(ledger.run_dir), num_rows)
    print_table(needs_table(found, "The whole run, if its engines are as fast as the preview's"))
    for line in needs_lines(found):
        click.echo(line)
    click.echo("a full batch is faster than the preview's few requests")
