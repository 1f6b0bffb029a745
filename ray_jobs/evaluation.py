"""The accuracies of a model on the held-out tasks, under each message; no race.

`evaluation.messages` names the messages: the cautious one, the empty one, or both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import evaluation_rooms
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.console.tables import accuracy_table
from orca2_gen.provenance.inputs import Inputs, read_inputs, with_engine, with_evaluated
from orca2_gen.provenance.stage_keys import evaluation_key
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.units import UnitName
from ray_jobs.dispatch.leases import EngineUnit, ScoreUnit
from ray_jobs.pipeline import read_task_files
from ray_jobs.run import Run
from ray_jobs.stages import run_engines

NO_TASKS = "the config has no [[evaluation.tasks]]; add the held-out task files"


def evaluate_model(run: Run, label: str, model: Path | None = None) -> dict[str, dict[str, float]]:
    """Message -> task -> accuracy of a model; `macro` is the mean over tasks.

    Args:
        run: the run with the held-out tasks.
        label: name of the model in unit names.
        model: directory of the model; None takes the student.

    Raises:
        ValueError: the config names no evaluation tasks, or the student's engine cannot load the
            model.
    """
    return accuracies(score_model(run, label, model))


def accuracies(
    scores: Sequence[StudentScore], *, with_forced: bool = True
) -> dict[str, dict[str, float]]:
    """Message -> task -> accuracy in these scores; `macro` is the mean over tasks.

    Without `with_forced`, an answer that a forced ending gave counts as wrong.
    """
    by_cell: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for s in scores:
        by_cell[s.strategy][s.task].append(s.score if with_forced or not s.is_forced else 0.0)
    found = {}
    for message, tasks in by_cell.items():
        means = {task: sum(values) / len(values) for task, values in sorted(tasks.items())}
        found[message] = means | {"macro": sum(means.values()) / len(means)}
    return found


def evaluation_table(scores: Mapping[str, Sequence[StudentScore]]) -> Table:
    """The accuracies of each model, by its label, with and without forced answers."""
    found = {label: accuracies(each) for label, each in scores.items()}
    without = {label: accuracies(each, with_forced=False) for label, each in scores.items()}
    return accuracy_table(found, without)


def score_model(run: Run, label: str, model: Path | None = None) -> list[StudentScore]:
    """Every score of a model on the held-out tasks, all of them committed."""
    if not run.config.evaluation.tasks:
        raise ValueError(NO_TASKS)
    read_held_out(run)
    engine = engine_of(run.config, model)
    run.inputs = with_engine(run.inputs, engine)
    key = evaluation_key(run.config, engine, run.keys["evaluation_problems"], run.inputs)
    files = _score(run, label, engine, key)
    return [score for entry in files for score in read_records(run.run_dir, entry, StudentScore)]


def _score(run: Run, label: str, engine: EngineConfig, key: str) -> list[FileEntry]:
    """The committed score files of a model on the held-out tasks, each under the configured system
    messages.

    Args:
        run: a run that has read its held-out tasks.
        label: name of the model in unit names and progress.
        engine: engine with the model.
        key: a hash of all that determines these scores.
    """
    to_score: list[EngineUnit] = []
    units = []
    for receipt in run.ledger.committed("evaluation_problems"):
        name = UnitName(
            stage="evaluation",
            stage_key=key,
            unit=evaluation_unit(label, key, receipt.unit),
            group=receipt.group,
            driver=run.driver,
        )
        units.append(name.unit)
        if (name.stage, name.unit) not in run.ledger.units and receipt.accepted.rows:
            to_score.append(
                ScoreUnit(
                    name=name,
                    rows=((receipt.accepted, tuple(range(receipt.accepted.rows))),),
                    strategies=run.config.evaluation.messages,
                    role="student",
                    # One budget for all: a second attempt would favour long answers.
                    budget=Budget(
                        max_tokens=run.config.evaluation.max_tokens,
                        answer_max_tokens=run.config.scoring.ending_tokens,
                        max_model_len=engine.max_model_len,
                        thinking_tokens=engine.thinking_tokens,
                    ),
                )
            )
    run_engines(run, f"evaluation {label}", engine, to_score)
    return [
        run.ledger.units["evaluation", unit].accepted
        for unit in units
        if ("evaluation", unit) in run.ledger.units
    ]


def read_held_out(run: Run) -> None:
    """Commits the held-out task files as problems."""
    read_task_files(
        run, "evaluation_problems", run.config.evaluation.tasks, evaluation_rooms(run.config)
    )


def evaluation_unit(label: str, key: str, problems: str) -> str:
    """The name of the unit in which a model answers one unit of held-out problems."""
    return f"{label}-{key[:8]}-{problems}"


def inputs_of(config: Config, model: Path | None) -> Inputs:
    """The Inputs of a config and of a model to be evaluated, all of which could be asked.

    Raises:
        ValueError: there is nothing to ask, or the model's files are of no use.
    """
    if not config.evaluation.tasks:
        raise ValueError(NO_TASKS)
    return with_evaluated(config, read_inputs(config), engine_of(config, model))


def engine_of(config: Config, model: Path | None) -> EngineConfig:
    """The engine that evaluates a model: the student's, with this model in it.

    Raises:
        ValueError: the model directory does not exist, or the student's engine loads no model.
    """
    student = config.student
    if model is None:
        return student
    if not isinstance(student, VLLMEngineConfig):
        raise ValueError(
            "the student is a scripted engine, which loads no model; leave --model out"
        )
    if not model.is_dir():
        raise ValueError(
            f"no model directory at {model}; train one first, or give another with --model"
        )
    return student.model_copy(update={"model": str(model.resolve())})
