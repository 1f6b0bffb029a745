"""A model on the held-out tasks -> accuracies per task, under the cautious message and under none; no race."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from orca2_gen.config_schema import EngineConfig, VLLMEngineConfig
from orca2_gen.plan import evaluation_key
from orca2_gen.records import StudentScore
from orca2_gen.shards import read_records
from ray_jobs.pipeline import Run, evaluate, read_evaluation_tasks


def evaluate_model(run: Run, label: str, model: Path | None = None) -> dict[str, dict[str, float]]:
    """Message -> task -> accuracy of a model; `macro` is the mean over tasks.

    Args:
        run: whose held-out tasks are asked.
        label: names the model in unit names.
        model: its directory; None takes the student.

    Raises:
        ValueError: the config names no evaluation tasks, or the model cannot be loaded by the student's engine.
    """
    scores = score_model(run, label, model)
    by_cell: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for s in scores:
        by_cell[s.strategy][s.task].append(s.score)
    accuracies = {}
    for message, tasks in by_cell.items():
        means = {task: sum(values) / len(values) for task, values in sorted(tasks.items())}
        accuracies[message] = means | {"macro": sum(means.values()) / len(means)}
    return accuracies


def score_model(run: Run, label: str, model: Path | None = None) -> list[StudentScore]:
    """Every score of a model on the held-out tasks, committed first."""
    if not run.config.evaluation.tasks:
        raise ValueError("the config has no [[evaluation.tasks]]; add the held-out task files")
    read_evaluation_tasks(run)
    engine = _engine_of(run, model)
    key = evaluation_key(run.config, engine, run.keys["evaluation_problems"])
    files = evaluate(run, label, engine, key)
    return [score for entry in files for score in read_records(run.run_dir, entry, StudentScore)]


def _engine_of(run: Run, model: Path | None) -> EngineConfig:
    student = run.config.student
    if model is None:
        return student
    if not isinstance(student, VLLMEngineConfig):
        raise ValueError("the student is a scripted engine, which loads no model; leave --model out")
    if not model.is_dir():
        raise ValueError(f"no model directory at {model}; train one first, or give another with --model")
    return student.model_copy(update={"model": str(model.resolve())})
