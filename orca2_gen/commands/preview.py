"""`orca2 preview`: the whole path on a few problems, before anyone pays for a night."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca2_gen.commands.options import PATH, config_argument, set_option
from orca2_gen.commands.preflight import asked_inputs
from orca2_gen.commands.printing import print_cost, print_selections, print_steps, print_table
from orca2_gen.config.load import load_config

if TYPE_CHECKING:
    from orca2_gen.config.schema import Config
    from orca2_gen.run_directory.ledger import Ledger
    from orca2_gen.selection.blocks import Rule


@click.command()
@config_argument
@set_option
@click.option(
    "--rows", default=3, show_default=True, type=click.IntRange(1, 100), help="Problems of a task."
)
@click.option("--into", type=PATH, help="Directory of the preview.  [default: RUN_DIR-preview]")
def preview(config_file: Path, overrides: tuple[str, ...], rows: int, into: Path | None) -> None:
    """Make a few rows of each task of CONFIG, show all of them, and tell what the run would take.

    It is a run like any other, with CONFIG's own models, each started once, and stays in a
    directory of its own: prompts, answers under every strategy with their grades, the teacher's
    answers, and the rows as they would train.
    """
    from orca2_gen.config.arguments import roles_of_run
    from orca2_gen.console.progress import shown
    from orca2_gen.preview.config import SUFFIX, preview_config
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    config = load_config(config_file, overrides)
    run_dir = Path(into or f"{config.run_dir}{SUFFIX}").absolute()
    small = preview_config(config, rows, str(run_dir))
    inputs = asked_inputs(small)
    with open_run(small, shown(run_dir), roles=roles_of_run(small), inputs=inputs) as opened:
        summary = run_all(opened)
        for problem_id in _problems(opened.ledger, rows):
            print_steps(run_dir, problem_id)
        print_selections(opened.ledger)
        print_cost(opened.ledger, with_strategies=True)
        click.echo(f"{summary.rows} rows, in {summary.directory}")
        _print_needs(config, _rule(config, opened.inputs.strategies), opened.ledger)
    click.echo(f"a page about it: orca2 report {run_dir}")


def _rule(config: Config, strategies: object) -> Rule:
    from orca2_gen.config.arguments import selection_rule

    return selection_rule(config, strategies)  # type: ignore[arg-type]


def _problems(ledger: Ledger, num_rows: int) -> Iterator[str]:
    """The ids of up to so many problems of each task."""
    from orca2_gen.records import Problem
    from orca2_gen.run_directory.ledger import committed_rows

    seen: dict[str, int] = {}
    for problem in committed_rows(ledger, "problems", Problem):
        seen[problem.task] = seen.get(problem.task, 0) + 1
        if seen[problem.task] <= num_rows:
            yield problem.problem_id


def _print_needs(config: Config, rule: Rule, ledger: Ledger) -> None:
    from rich.filesize import decimal

    from orca2_gen.console.tables import needs_table
    from orca2_gen.preview.whole_run import whole_run
    from orca2_gen.run_directory.engine_figures import read_figures

    needs, rows = whole_run(config, rule, ledger, read_figures(ledger.run_dir))
    print_table(needs_table(needs))
    click.echo(
        f"the whole run: about {rows.value:,.0f} rows ({rows.low:,.0f} to {rows.high:,.0f}), "
        f"{decimal(round(sum(each.num_bytes for each in needs)))} beside the dataset; seconds are "
        "those of one engine at the preview's speed, and a full batch is faster"
    )
