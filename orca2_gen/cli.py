"""`orca2`, one sub-command per stage.

Only this file, notebook.py and files in commands/ reach ray_jobs and train,
inside their functions.

Exit codes: 0 done; 1 stopped by a failure, resumable; 2 usage or config; 3 too many rejections; 75
interrupted, resumable.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orca2_gen.commands import inspection, options, preflight, printing
from orca2_gen.commands.cluster import submit
from orca2_gen.commands.doctor import doctor
from orca2_gen.commands.evaluation import evaluate, log_samples
from orca2_gen.commands.examples import EXAMPLES
from orca2_gen.commands.export import export
from orca2_gen.commands.init import init
from orca2_gen.commands.options import PATH, config_argument, run_options, set_option
from orca2_gen.commands.plan import plan
from orca2_gen.commands.preparation import prepare
from orca2_gen.commands.preview import preview
from orca2_gen.commands.recovery import recover
from orca2_gen.commands.report import report
from orca2_gen.commands.running import with_run
from orca2_gen.commands.status import status
from orca2_gen.commands.training import train
from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import INTERRUPTED, REJECTED, USAGE, exit_code


def main() -> None:
    """Runs the command line; a user's mistake is one line and exit code 2, never a traceback."""
    _open_closed_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # A command that raises click's Exit makes this return its code.
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # click turns the first into the second
        click.echo(
            "Interrupted: what is committed stays; run the same command again to continue.",
            err=True,
        )
        sys.exit(INTERRUPTED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        # A path may hold a line break; a traceback of Ray's is shown as it is.
        text = " ".join(str(error).splitlines()) if code == USAGE else str(error)
        click.echo(f"Error: {text}", err=True)
        sys.exit(code)


def _open_closed_streams() -> None:
    """Opens /dev/null in place of each standard stream that the caller has closed."""
    # Else the next file to be opened takes its number, and receives all that is printed.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _terminate(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


@click.group()
@options.version_option
def cli() -> None:
    """Generate Orca 2's cautious-reasoning data: the best strategy for the student, then erased."""


OTHERS = (
    *(init, status, report, doctor, recover, submit, plan, preview, prepare, export, train),
    *(evaluate, log_samples),
)
for command in (*inspection.COMMANDS, *OTHERS):
    cli.add_command(command)


@cli.command()
@config_argument
@set_option
@click.option("--fork", type=PATH, help="Start from this run's stages that fit CONFIG.")
@run_options
def run(config_file: Path, overrides: tuple[str, ...], fork: Path | None, check: bool) -> None:
    """Make the dataset of CONFIG: tasks, scores, selections, rationales, examples, dataset."""
    config = load_config(config_file, overrides, source=fork)
    inputs = preflight.asked_inputs(config)
    from orca2_gen.config.arguments import roles_of_run
    from ray_jobs.pipeline import run_all

    with_run(config, inputs, _dataset_of(run_all), roles_of_run(config), fork, check=check)


@cli.command()
@config_argument
@set_option
@run_options
def score(config_file: Path, overrides: tuple[str, ...], check: bool) -> None:
    """Score the student and select one strategy per task; print the table."""
    from orca2_gen.config.arguments import roles_of_scoring
    from ray_jobs.pipeline import judge_answers, read_tasks, score_student, select_strategies
    from ray_jobs.run import Run

    def stages(run: Run) -> None:
        read_tasks(run)
        score_student(run)
        judge_answers(run)
        select_strategies(run)
        printing.print_selections(run.ledger)

    config = load_config(config_file, overrides)
    inputs = preflight.asked_inputs(config)
    with_run(config, inputs, stages, roles_of_scoring(config), check=check)


@cli.command()
@config_argument
@set_option
@run_options
def teach(config_file: Path, overrides: tuple[str, ...], check: bool) -> None:
    """Continue after `orca2 score`: rationales, examples, dataset."""
    from ray_jobs.pipeline import build_dataset, erase
    from ray_jobs.pipeline import teach as teach_stage
    from ray_jobs.run import Run

    def stages(run: Run) -> Any:
        teach_stage(run)
        erase(run)
        return build_dataset(run)

    config = load_config(config_file, overrides)
    with_run(config, preflight.asked_inputs(config), _dataset_of(stages), {"teacher"}, check=check)


@cli.command()
@config_argument
@click.argument("topics", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@set_option
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Where the work is kept, so that it can be resumed.  [default: OUT with .run]",
)
def synthesise(
    config_file: Path, topics: Path, out: Path, overrides: tuple[str, ...], run_dir: Path | None
) -> None:
    """Let CONFIG's teacher write conversations on TOPICS, and their summaries, into task file OUT.

    TOPICS has one JSON object per line: {"topic": "..."}, optionally with id and category. A later
    run reads OUT with format = "jsonl" and answer_type = "summary".
    """
    from orca2_gen.synthesis import check_replaceable, synthesis_config, write_task_file
    from ray_jobs.pipeline import read_tasks, select_strategies
    from ray_jobs.pipeline import teach as teach_stage
    from ray_jobs.run import Run

    def stages(run: Run) -> None:
        read_tasks(run)
        select_strategies(run)
        teach_stage(run)
        num_rows = write_task_file(run.ledger, out)
        click.echo(f"{out}: {num_rows} conversations; rejections are in {run.run_dir}/rejections")
        if not num_rows:
            raise click.exceptions.Exit(REJECTED)

    kept = run_dir or out.with_name(f"{out.name}.run")
    config = synthesis_config(load_config(config_file, overrides, source=kept), topics, kept)
    check_replaceable(out, topics, kept)
    with_run(config, preflight.inputs_alone(config), stages, {"teacher"})


@cli.command()
@config_argument
@set_option
@click.option("--from", "run_dir", metavar="RUN", required=True, type=PATH, help="It is only read.")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=PATH,
    help="A model evaluated in RUN that is neither CONFIG's student nor RUN/student.",
)
def regrade(
    config_file: Path, overrides: tuple[str, ...], run_dir: Path, models: tuple[Path, ...]
) -> None:
    """Grade the stored completions of RUN again, without an engine, into the new run_dir of CONFIG.

    Use it after a change of the graders or readers, or of gold answers in the task files: it prints
    which gold answers, verdicts and selections differ. All else that determines scores must be as
    in RUN, except method, delta, indifference and open_requests of the selection. If task files are
    read otherwise, problems match by id and prompt, and only the answers to those that match are
    carried over. A judge's replies are read again, unless its weights or instructions, or the
    reference, differ. So are the teacher's answers, accepted and refused, where the same strategy
    is selected and the teacher would be asked alike. `orca2 run CONFIG` then continues; it asks the
    teacher only for answers that are not stored.
    """
    from orca2_gen.console.tables import regrading_table
    from orca2_gen.provenance.regrade import open_source
    from ray_jobs.regrading.regrade import regrade as regrade_run
    from ray_jobs.run import Run

    config = load_config(config_file, overrides, source=run_dir)
    inputs = preflight.inputs_alone(config)
    source = open_source(run_dir, config, inputs)

    def stages(run: Run) -> None:
        found = regrade_run(run, source, models)
        printing.print_table(regrading_table(found.changes))
        for line in found.lines:
            click.echo(line)

    with_run(config, inputs, stages, set())


@cli.command()
@set_option
def demo(overrides: tuple[str, ...]) -> None:
    """Show the whole method on the microworld: score, select, teach, erase, train, evaluate.

    The run stays in runs/demo.
    """
    from ray_jobs.demo import run_demo

    run_demo(overrides)


def _dataset_of(stages: Callable[[Any], Any]) -> Callable[[Any], None]:
    def report(opened: Any) -> None:
        from orca2_gen.console.tables import dataset_line

        summary = stages(opened)
        printing.print_selections(opened.ledger)
        click.echo(dataset_line(summary, opened.ledger))
        printing.print_cost(opened.ledger)
        if printing.is_scripted(opened.config):
            click.echo("a script answered: accuracies and answers are planted, not measured")
        if summary.rows == 0:
            click.echo(
                f"Error: every row was rejected; `orca2 status {opened.run_dir}` counts the "
                f"reasons, `orca2 report {opened.run_dir}` shows some of them",
                err=True,
            )
            raise click.exceptions.Exit(REJECTED)

    return report


for name, command in cli.commands.items():
    command.epilog = f"Example: {EXAMPLES[name]}"
