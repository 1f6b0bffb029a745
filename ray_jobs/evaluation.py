"""The answers of a model to the held-out tasks, under each message; no race.

`evaluation.messages` names the messages: the cautious one, the empty one, strategies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import Room, evaluated_room, held_out_judge_room
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.evaluations.about import Evaluation, unit_prefix, write_about
from orca2_gen.evaluations.answers import JUDGED
from orca2_gen.provenance.evaluation_keys import (
    evaluation_key,
    judge_key,
    model_key,
    with_evaluating,
)
from orca2_gen.provenance.inputs import Inputs, check_evaluated, read_inputs
from orca2_gen.provenance.lineage import unjudged_evaluations
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.units import Receipt, UnitName
from ray_jobs.dispatch.leases import EngineUnit, JudgeUnit, Rows, ScoreUnit
from ray_jobs.pipeline import read_task_files
from ray_jobs.run import Run
from ray_jobs.stages import run_engines
from ray_jobs.units import judging_budget

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
    inputs = run.inputs = with_evaluating(run.config, run.inputs, engine)
    problems_key = run.keys["evaluation_problems"]
    key = evaluation_key(run.config, engine, problems_key, inputs)
    write_about(run.run_dir, about_evaluation(run.config, label, engine, problems_key, inputs))
    names = [
        (evaluation_name(run, label, key, receipt), receipt)
        for receipt in run.ledger.committed("evaluation_problems")
    ]
    _score(run, label, engine, names)
    _judge(run, label, names)
    made = run.ledger.units
    answered = [
        made.get((JUDGED, name.unit)) or made.get((name.stage, name.unit)) for name, _ in names
    ]
    return [receipt.accepted for receipt in answered if receipt is not None]


def asked_under(config: Config, messages: tuple[str, ...]) -> Config:
    """The config with these messages for its evaluation."""
    evaluation = config.evaluation.model_copy(update={"messages": messages})
    return config.model_copy(update={"evaluation": evaluation})


def about_evaluation(
    config: Config, label: str, engine: EngineConfig, problems_key: str, inputs: Inputs
) -> Evaluation:
    """What an evaluation asks; `problems_key` is the key of the held-out problems."""
    judge = config.judge_of_held_out
    return Evaluation(
        label=label,
        stage_key=evaluation_key(config, engine, problems_key, inputs),
        model=engine.model if isinstance(engine, VLLMEngineConfig) else "",
        model_key=model_key(config, engine, problems_key, inputs),
        messages={
            name: inputs.strategies.system_message(name) for name in config.evaluation.messages
        },
        max_tokens=config.evaluation.max_tokens,
        judge=judge.model if isinstance(judge, VLLMEngineConfig) else "",
        judge_key=judge_key(config, inputs),
    )


def _score(
    run: Run, label: str, engine: EngineConfig, names: Sequence[tuple[UnitName, Receipt]]
) -> None:
    """Commits a model's scores on the held-out tasks, each under the configured system messages.

    Args:
        run: a run that has read its held-out tasks.
        label: name of the model in progress.
        engine: engine with the model.
        names: name of each unit, and the receipt of its problems.
    """
    to_score: list[EngineUnit] = []
    room = _room_of(run, engine)
    for name, receipt in names:
        if (name.stage, name.unit) not in run.ledger.units and receipt.accepted.rows:
            to_score.append(
                ScoreUnit(
                    name=name,
                    rows=all_rows(receipt),
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
    earlier = _made(run, [name for name, _ in names])
    judge = run.config.judge_of_held_out
    run_engines(*(run, f"evaluation {label}", engine, to_score), earlier=earlier, successor=judge)


def _judge(run: Run, label: str, names: Sequence[tuple[UnitName, Receipt]]) -> None:
    """Commits the judgements of a model's units with answers to open problems."""
    judge = run.config.judge_of_held_out
    if judge is None:
        return
    to_judge: list[EngineUnit] = []
    unjudged = unjudged_evaluations(run.ledger)
    room = held_out_judge_room(run.config, run.inputs.strategies)
    for name, receipt in names:
        if name.unit in unjudged:
            to_judge.append(
                JudgeUnit(
                    name=dataclasses.replace(name, stage=JUDGED),
                    rows=all_rows(receipt),
                    scores=run.ledger.units[name.stage, name.unit].accepted,
                    strategies=run.config.evaluation.messages,
                    budget=judging_budget(run.config, judge),
                    room=room,
                )
            )
    earlier = _made(run, [dataclasses.replace(name, stage=JUDGED) for name, _ in names])
    run_engines(run, f"evaluation {label}, judged", judge, to_judge, earlier=earlier)


def _made(run: Run, names: Sequence[UnitName]) -> list[Receipt]:
    """The receipts of those that are committed."""
    found = [run.ledger.units.get((name.stage, name.unit)) for name in names]
    return [receipt for receipt in found if receipt is not None]


def all_rows(problems: Receipt) -> Rows:
    """Every row of a unit of problems."""
    return ((problems.accepted, tuple(range(problems.accepted.rows))),)


def _room_of(run: Run, engine: EngineConfig) -> Room | None:
    """The room of a model with other tokens than the student, in which the problems were measured.

    Its misfits are lost to it alone, so that the others are still compared item by item.
    """
    room = evaluated_room(run.config)
    directory, tokenizers = engine_directory(engine), run.inputs.tokenizers
    if tokenizers[directory] == tokenizers[room.tokenizer]:
        return None
    return dataclasses.replace(room, tokenizer=directory)


def read_held_out(run: Run) -> None:
    """Commits the held-out task files as problems."""
    rooms = (evaluated_room(run.config),)
    read_task_files(run, "evaluation_problems", run.config.evaluation.tasks, rooms)


def evaluation_name(run: Run, label: str, key: str, problems: Receipt) -> UnitName:
    """The name of the unit in which a model answers one unit of held-out problems."""
    return UnitName(
        stage="evaluation",
        stage_key=key,
        unit=unit_prefix(label, key) + problems.unit,
        group=problems.group,
        driver=run.driver,
    )


def inputs_of(config: Config, model: Path | None) -> Inputs:
    """The Inputs of a config and of a model to be evaluated, all of which could be asked.

    Raises:
        ValueError: there is nothing to ask, or the model's files are of no use.
    """
    if not config.evaluation.tasks:
        raise ValueError(NO_TASKS)
    inputs, engine = read_inputs(config), engine_of(config, model)
    check_evaluated(config, inputs, engine)
    return with_evaluating(config, inputs, engine)


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
