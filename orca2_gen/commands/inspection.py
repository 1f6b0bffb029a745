"""The commands of `orca2` that only read: task files and run directories."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from orca2_gen.commands.options import RUN
from orca2_gen.commands.printing import print_steps, print_table
from orca2_gen.exit_codes import FAILED, REJECTED
from orca2_gen.records import AnswerType, Problem

if TYPE_CHECKING:
    from orca2_gen.tasks.read import TaskRows


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "format_", default="jsonl", show_default=True, help="As in a config.")
@click.option("--split", default="train", show_default=True)
@click.option("--answer-type", type=click.Choice(get_args(AnswerType)))
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="E.g. question=prompt.")
@click.option("--rows-per-task", type=click.IntRange(1), help="Read a sample of this many rows.")
@click.option("--rows-per-category", type=click.IntRange(1), help="The same for every category.")
@click.option("--sample-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--taxonomy", help="A file with the categories of tasks.")
@click.option("--show", default=3, show_default=True, help="Lines to print per reason.")
def tasks(
    files: tuple[Path, ...],
    format_: str,
    columns: tuple[str, ...],
    taxonomy: str | None,
    show: int,
    **options: Any,
) -> None:
    """Read task FILES, or directories, and print what each holds.

    That is its problems by answer type, the rows passed over, and the rejections with their
    reasons. The exit code is 3 if one of them holds no problem.
    """
    from orca2_gen.tasks.read import read_task
    from orca2_gen.tasks.soundness import check_sound, notes_on
    from orca2_gen.tasks.source import TaskSource
    from orca2_gen.tasks.taxonomy import load_taxonomy

    branches, mapping = load_taxonomy(taxonomy), _columns(columns)
    num_problems = []
    for file in files:
        name = file.name.split(".")[0]
        source = TaskSource(name=name, format=format_, path=file, columns=mapping, **options)
        check_sound(source)
        for note in notes_on(source):
            click.echo(f"  {note}")
        num_problems.append(_print_task(name, read_task(source, branches), show))
        if not num_problems[-1] and (hint := _how_to_read(file)):
            click.echo(f"  {hint}")
    if not all(num_problems):
        sys.exit(REJECTED)


def _how_to_read(file: Path) -> str:
    """The options by which rows of a file can be read; empty if none are found."""
    from orca2_gen.draft.tasks import tasks_in

    for task in tasks_in([file]):
        if task.format:
            columns = [f"--columns {name}={column}" for name, column in task.columns.items()]
            words = " ".join((f"--format {task.format}", *columns))
            return f"{task.num_problems} of the first {task.num_rows} rows can be read with {words}"
    return ""


def _columns(given: tuple[str, ...]) -> dict[str, str | list[str]]:
    """The mapping of FIELD=COLUMN pairs; a repeated field takes several columns."""
    found: dict[str, list[str]] = {}
    for pair in given:
        field, _, column = pair.partition("=")
        if not column:
            raise click.BadParameter(f"{pair!r} is not of the form FIELD=COLUMN")
        found.setdefault(field, []).append(column)
    return {field: names[0] if len(names) == 1 else names for field, names in found.items()}


def _print_task(name: str, read: TaskRows, show: int) -> int:
    """The number of problems, after what there is to say of them is printed."""
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for row in read.rows:
        if isinstance(row, Problem):
            kinds[row.answer_type] += 1
            continue
        reasons[row.reason] += 1
        if reasons[row.reason] <= show:
            click.echo(f"  {row.problem_id} {row.reason}: {row.detail}")
    lines = read.sample.shortfalls if read.sample else ()
    for shortfall in lines[:show]:
        click.echo(f"  {shortfall.sentence}")
    if len(lines) > show:
        click.echo(f"  and {len(lines) - show} more fell short")
    click.echo(
        f"{name}: {kinds.total()} problems, {reasons.total()} rejected"
        + (f" {dict(reasons)}" if reasons else "")
        + (f", {read.sample.num_passed_over} passed over" if read.sample else "")
        + (f"; {', '.join(f'{num} {kind}' for kind, num in kinds.items())}" if kinds else "")
        + f"; {kinds.total() + reasons.total()} rows read"
    )
    return kinds.total()


@click.command()
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The student's directory: proves the ids of a dataset that left its run.",
)
@click.option(
    "--strategies",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The strategies file of such a dataset, unless it is the package's own.",
)
def verify(run_dir: Path, model: Path | None, strategies: Path | None) -> None:
    """Check a run directory: every file, every id's path, the proof of erasure.

    A dataset that was moved out of its run, or an export, is checked by its own files.
    """
    from orca2_gen.console.tables import verification_table
    from orca2_gen.provenance.dataset_alone import Beside
    from orca2_gen.provenance.verify import verify as verify_run

    found = verify_run(run_dir, Beside(model=model, strategies=strategies))
    if found.table:
        print_table(verification_table(found))
    for note in found.notes:
        click.echo(f"note: {note}")
    if found.verdict:
        click.echo(f"proof: {found.verdict}")
    for finding in found.findings:
        click.echo(f"WRONG: {finding}")
    click.echo(
        f"{run_dir}: {len(found.findings)} faults" if found.findings else f"{run_dir}: whole"
    )
    sys.exit(FAILED if found.findings else 0)


@click.command()
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.argument("problem_id", metavar="PROBLEM_ID")
def trace(run_dir: Path, problem_id: str) -> None:
    """Show how RUN treated one problem: prompts, scores, choice, teacher's answer, row.

    Each step names its file and the line of the ledger that lists it. A row that was rejected as it
    was read is named by its place, FILE:LINE.
    """
    print_steps(run_dir, problem_id)


COMMANDS = (tasks, verify, trace)
