"""The commands of `orca2` about models on held-out tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import click

from orca2_gen.commands import preflight, printing
from orca2_gen.commands.options import PATH, RUN, config_argument, run_options, set_option
from orca2_gen.commands.running import with_run
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.evaluations.about import STUDENT, TRAINED, safe_label

LogFormat = Literal["inspect", "lm-eval"]


@click.command()
@config_argument
@set_option
@click.option("--model", type=PATH, help="A model other than the student, e.g. RUN/student.")
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME",
    help="Ask under this strategy's instruction in place of evaluation.messages; may be repeated.",
)
@click.option(
    "--label",
    help="Name of the model in tables.  [default: student; trained for the model that the run "
    "trains; else the directory's name]",
)
@run_options
def evaluate(
    config_file: Path,
    overrides: tuple[str, ...],
    model: Path | None,
    strategies: tuple[str, ...],
    label: str | None,
    check: bool,
) -> None:
    """Score a model on held-out tasks and keep its answers; print the accuracies of all models.

    The tasks are asked under evaluation.messages, which are no strategy's unless CONFIG says so.
    Tables give 95% intervals, the differences of later models from the student on the same items,
    and the shares of answers that were cut, could not be read, or rest on a forced ending.
    """
    from orca2_gen.config.arguments import roles_of_evaluation
    from ray_jobs.evaluation import evaluate_model

    def stages(run: Any) -> None:
        evaluate_model(run, name, model)
        printing.print_evaluations(run.ledger)

    if strategies:
        overrides = (*overrides, f"evaluation.messages={json.dumps(strategies)}")
    config = load_config(config_file, overrides)
    name = safe_label(label) if label is not None else _label_of(config, model)
    inputs = preflight.evaluated_inputs(config, model)
    with_run(config, inputs, stages, roles_of_evaluation(config), check=check)


@click.command("log-samples")
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "log_format",
    type=click.Choice(get_args(LogFormat)),
    default="inspect",
    show_default=True,
    help="Whose logs the files are like.",
)
def log_samples(run_dir: Path, out: Path, log_format: LogFormat) -> None:
    """Write the answers of RUN's evaluations to the directory OUT, as other tools log them.

    Each model, message and task is a log that `inspect view --log-dir OUT` shows, or with lm-eval a
    file of samples beside one of results, as `lm_eval --log_samples` leaves them.
    """
    from orca2_gen.evaluations.sample_logs import write_sample_logs

    made = write_sample_logs(run_dir, out, log_format)
    click.echo(f"{len(made)} files in {out}")


def _label_of(config: Config, model: Path | None) -> str:
    from train.launch import trained_student

    if model is None:
        return STUDENT
    resolved = model.resolve()
    return TRAINED if resolved == trained_student(config).resolve() else safe_label(resolved.name)
