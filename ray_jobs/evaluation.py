"""The answers of a model to the held-out tasks, under each message; no race.

`evaluation.messages` names the messages: the cautious one, the empty one, strategies.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import Room, evaluation_rooms
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.evaluations.about import Evaluation, unit_prefix, write_about
from orca2_gen.provenance.evaluation_keys import evaluation_key, model_key
from orca2_gen.provenance.inputs import Inputs, read_inputs, with_engine, with_evaluated
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.units import UnitName
from ray_jobs.dispatch.leases import EngineUnit, ScoreUnit
from ray_jobs.pipeline import read_task_files
from ray_jobs.run import Run
from ray_jobs.stages import run_engines

NO_TASKS = "the config has no [[evaluation.tasks]]; add the held-out task files"


def score_model(run: Run, label: str, model: Path | None = None) -> list[StudentScore]:
    """Every score of a model on the held-out tasks, all of them committed.

    For tables, `evaluate_model` and `evaluations.accuracies` leave the texts in their files.
    """
    files = evaluate_model(run, label, model)
    return [score for entry in files for score in read_records(run.run_dir, entry, StudentScore)]


def evaluate_model(run: Run, label: str, model: Path | None = None) -> list[FileEntry]:
    """The committed files of a model's scores on the held-out tasks, under each message.

    Args:
        run: the run with the held-out tasks.
        label: name of the model in the names of units.
        model: directory of the model; None takes the student.

    Raises:
        ValueError: the config names no evaluation tasks, or the student's engine cannot load the
            model.
    """
    if not run.config.evaluation.tasks:
        raise ValueError(NO_TASKS)
    read_held_out(run)
    engine = engine_of(run.config, model)
    inputs = run.inputs = with_engine(run.inputs, engine)
    problems_key = run.keys["evaluation_problems"]
    key = evaluation_key(run.config, engine, problems_key, inputs)
    write_about(run.run_dir, about_evaluation(run.config, label, engine, problems_key, inputs))
    return _score(run, label, engine, key)


def asked_under(config: Config, messages: tuple[str, ...]) -> Config:
    """The config with these messages for its evaluation."""
    evaluation = config.evaluation.model_copy(update={"messages": messages})
    return config.model_copy(update={"evaluation": evaluation})


def about_evaluation(
    config: Config, label: str, engine: EngineConfig, problems_key: str, inputs: Inputs
) -> Evaluation:
    """What an evaluation asks; `problems_key` is the key of the held-out problems."""
    return Evaluation(
        label=label,
        stage_key=evaluation_key(config, engine, problems_key, inputs),
        model=engine.model if isinstance(engine, VLLMEngineConfig) else "",
        model_key=model_key(config, engine, problems_key, inputs),
        messages={
            name: inputs.strategies.system_message(name) for name in config.evaluation.messages
        },
        max_tokens=config.evaluation.max_tokens,
    )


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
    room = _room_of(run, engine)
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
                    room=room,
                    # One budget for all: a second attempt would favour long answers.
                    budget=Budget(
                        max_tokens=run.config.evaluation.max_tokens,
                        answer_max_tokens=run.config.scoring.ending_tokens,
                        max_model_len=engine.max_model_len,
                        thinking_tokens=engine.thinking_tokens,
                    ),
                )
            )
    made = run.ledger.units
    earlier = [made["evaluation", unit] for unit in units if ("evaluation", unit) in made]
    run_engines(run, f"evaluation {label}", engine, to_score, earlier=earlier)
    return [made["evaluation", unit].accepted for unit in units if ("evaluation", unit) in made]


def _room_of(run: Run, engine: EngineConfig) -> Room | None:
    """The room of a model with other tokens than the student, in which the problems were measured.

    Its misfits are lost to it alone, so that the others are still compared item by item.
    """
    [room] = evaluation_rooms(run.config)
    directory, tokenizers = engine_directory(engine), run.inputs.tokenizers
    if tokenizers[directory] == tokenizers[room.tokenizer]:
        return None
    return dataclasses.replace(room, tokenizer=directory)


def read_held_out(run: Run) -> None:
    """Commits the held-out task files as problems."""
    read_task_files(
        run, "evaluation_problems", run.config.evaluation.tasks, evaluation_rooms(run.config)
    )


def evaluation_unit(label: str, key: str, problems: str) -> str:
    """The name of the unit in which a model answers one unit of held-out problems."""
    return unit_prefix(label, key) + problems


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
