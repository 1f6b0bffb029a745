"""`orca2`, one sub-command per stage; the only file here that reaches ray_jobs and train, inside
the command.

Exit codes: 0 done; 1 stopped by a failure, resumable; 2 usage or config; 3 too many rejections; 75
interrupted, resumable.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orca2_gen.config import load_config
from orca2_gen.config_schema import Config
from orca2_gen.endings import FAILED, INTERRUPTED, REJECTED, USAGE, TooManyRejections
from orca2_gen.lock import RunInUse
from orca2_gen.records import AnswerType, Problem
from orca2_gen.shards import DamagedFile

config_argument = click.argument("config_file", metavar="CONFIG", type=click.Path(path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of CONFIG, e.g. run_dir=runs/two.",
)


def main() -> None:
    """Runs the command line; a user's mistake is one line and exit code 2, never a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # A command that raises click's Exit makes this return its code.
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (DamagedFile, RunInUse) as error:
        _fail(error, FAILED)
    except TooManyRejections as error:
        _fail(error, REJECTED)
    except ValueError as error:
        _fail(error, USAGE)
    except (KeyboardInterrupt, click.Abort):  # click turns the first into the second
        click.echo(
            "Interrupted: what is committed stays; run the same command again to go on.", err=True
        )
        sys.exit(INTERRUPTED)
    except (RuntimeError, OSError) as error:
        _fail(error, FAILED)
    except Exception as error:
        # Ray's own errors; their classes are only known once a command has imported ray.
        if not type(error).__module__.startswith("ray."):
            raise
        _fail(error, FAILED)


def _fail(error: Exception, code: int) -> None:
    click.echo(f"Error: {error}", err=True)
    sys.exit(code)


def _terminate(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


@click.group()
@click.version_option(package_name="orca2-gen")
def cli() -> None:
    """Generates Orca 2's cautious-reasoning data: the best strategy for the student, then its
    instruction erased.
    """


@cli.command()
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


@cli.command()
@config_argument
@set_option
@click.option(
    "--fork",
    "fork",
    type=click.Path(path_type=Path),
    help="Start from this run's stages that fit CONFIG.",
)
def run(config_file: Path, overrides: tuple[str, ...], fork: Path | None) -> None:
    """Make the dataset of CONFIG: tasks, scores, selections, rationales, examples, dataset."""
    config = load_config(config_file, overrides)
    if fork is not None:
        _fork(fork, config)
    from ray_jobs.pipeline import run_all

    _with_run(config, _dataset_of(run_all))


@cli.command()
@config_argument
@set_option
def score(config_file: Path, overrides: tuple[str, ...]) -> None:
    """Score the student and select one strategy per task; print the table."""
    from orca2_gen.tables import selection_table
    from ray_jobs.pipeline import read_tasks, score_student, select_strategies
    from ray_jobs.run import Run

    def stages(run: Run) -> None:
        read_tasks(run)
        score_student(run)
        select_strategies(run)
        _print(selection_table(run.ledger))

    _with_run(load_config(config_file, overrides), stages)


@cli.command()
@config_argument
@set_option
def teach(config_file: Path, overrides: tuple[str, ...]) -> None:
    """Go on from `orca2 score`: rationales, examples, dataset."""
    from ray_jobs.pipeline import build_dataset, erase
    from ray_jobs.pipeline import teach as teach_stage
    from ray_jobs.run import Run

    def stages(run: Run) -> Any:
        teach_stage(run)
        erase(run)
        return build_dataset(run)

    _with_run(load_config(config_file, overrides), _dataset_of(stages))


@cli.command()
@config_argument
@set_option
@click.option(
    "--nproc-per-node", default=1, show_default=True, help="torchrun's own: one process per GPU."
)
def train(config_file: Path, overrides: tuple[str, ...], nproc_per_node: int) -> None:
    """Fine-tune the student on the run's dataset, as `torchrun -m train.sft CONFIG` does."""
    from ray_jobs.training import train_student

    load_config(config_file, overrides)
    train_student(config_file, overrides, nproc_per_node)


@cli.command()
@config_argument
@set_option
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Another model than the student, e.g. RUN/student.",
)
def evaluate(config_file: Path, overrides: tuple[str, ...], model: Path | None) -> None:
    """Score a model on the held-out tasks with no strategy instruction; print and keep accuracies
    per task.
    """
    from orca2_gen.tables import accuracy_table
    from ray_jobs.evaluation import evaluate_model
    from ray_jobs.run import Run

    def stages(run: Run) -> None:
        _print(accuracy_table({label: evaluate_model(run, label, model)}))

    label = "student" if model is None else model.name
    _with_run(load_config(config_file, overrides), stages)


@cli.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
def verify(run_dir: Path) -> None:
    """Check a run directory: every file, every id's way, the proof of erasure."""
    from orca2_gen.tables import verification_table
    from orca2_gen.verify import verify as verify_run

    found = verify_run(run_dir)
    _print(verification_table(found))
    for note in found.notes:
        click.echo(f"note: {note}")
    for finding in found.findings:
        click.echo(f"WRONG: {finding}")
    click.echo(
        f"{run_dir}: {len(found.findings)} faults" if found.findings else f"{run_dir}: whole"
    )
    sys.exit(FAILED if found.findings else 0)


@cli.command()
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
    _print(selection_table(ledger))


@cli.command()
@set_option
def demo(overrides: tuple[str, ...]) -> None:
    """Show the whole method on the microworld: score, select, teach, erase, train, evaluate. Leaves
    runs/demo.
    """
    from ray_jobs.demo import run_demo

    run_demo(overrides)


@cli.command()
@config_argument
@set_option
def plan(config_file: Path, overrides: tuple[str, ...]) -> None:
    """Print where the engines of CONFIG would go on this cluster, or why they do not fit."""
    from ray_jobs.placement import plan_lines, ray_instance

    config = load_config(config_file, overrides)
    with ray_instance():
        for line in plan_lines(config):
            click.echo(line)


def _with_run(config: Config, stages: Callable[[Any], None]) -> None:
    from orca2_gen.progress import show_stage
    from ray_jobs.run import open_run

    with open_run(config, show_stage) as opened:
        stages(opened)


def _dataset_of(stages: Callable[[Any], Any]) -> Callable[[Any], None]:
    def report(opened: Any) -> None:
        from orca2_gen.tables import dataset_line, selection_table

        summary = stages(opened)
        _print(selection_table(opened.ledger))
        click.echo(dataset_line(summary, opened.ledger))
        if summary.rows == 0:
            click.echo(
                "Error: every row was rejected; see the reasons with `orca2 verify` and "
                "rejections/",
                err=True,
            )
            raise click.exceptions.Exit(REJECTED)

    return report


def _fork(source: Path, config: Config) -> None:
    from orca2_gen.fork import fork_run
    from orca2_gen.plan import stage_determinants, stage_keys

    stages = fork_run(source, Path(config.run_dir), stage_keys(stage_determinants(config)))
    click.echo(f"forked {', '.join(stages) or 'nothing'} from {source}", err=True)


def _print(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 130).print(table)
