"""The seconds between the student's last committed unit and the teacher's first.

The same small run once with each schedule: the small model is scored, the large one teaches. In the
phased schedule this is the end of the student's engine, the selections, the teacher's start and its
first unit. In the overlapped one it is negative where the devices hold both models.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from benchmarks.host.child import Notes
from benchmarks.host.device import needs
from benchmarks.host.steps import Task
from benchmarks.throughput.models import SIZES, engine_config, model_directory
from benchmarks.throughput.runs import run_config
from benchmarks.throughput.workload import draw_sets
from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.run_directory.units import Receipt
from ray_jobs.overlapped import score_and_teach
from ray_jobs.pipeline import read_tasks, score_student, select_strategies, teach
from ray_jobs.run import open_run

TASKS = 4
PROBLEMS = 8
"""Problems of a task, all of them scored and all taught."""
SCHEDULES: tuple[Literal["phased", "overlapped"], ...] = ("phased", "overlapped")


def measure(task: Task, notes: Notes) -> None:
    """Notes the seconds of both schedules."""
    needs("vllm")
    for schedule in SCHEDULES:
        with tempfile.TemporaryDirectory(dir=task.folder) as folder:
            seconds = _scored_and_taught(_config(task, schedule, Path(folder)))
        notes.add(**{f"{schedule}_{name}": round(value, 1) for name, value in seconds.items()})


def _scored_and_taught(config: Config) -> dict[str, float]:
    """The seconds of a run, from the student's start to the teacher's last unit."""
    commits: dict[str, list[float]] = {}

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            commits.setdefault(receipt.stage, []).append(time.monotonic())

        yield advance

    with open_run(config, track) as run:
        read_tasks(run)
        began = time.monotonic()
        if config.dispatch.schedule == "phased":
            score_student(run)
            select_strategies(run)
            teach(run)
        else:
            score_and_teach(run)
        ended = time.monotonic()
    return {
        "swap_seconds": min(commits["rationales"]) - max(commits["scores"]),
        "student_seconds": max(commits["scores"]) - began,
        "seconds": ended - began,
    }


def _config(task: Task, schedule: Literal["phased", "overlapped"], folder: Path) -> Config:
    """The run of a schedule below this directory."""
    small, large = task.models
    student, teacher = (
        engine_config(model_directory(name, Path(task.folder)), SIZES[name], on_gpu=task.on_gpu)
        for name in (small, large)
    )
    sets = draw_sets({f"task-{index}": PROBLEMS for index in range(TASKS)})
    config = run_config(student, SIZES[small], folder, sets)
    scored = {"scored_problems": PROBLEMS, "block_size": PROBLEMS // 2}
    return config.model_copy(
        update={
            "rows_per_unit": PROBLEMS // 2,
            "teacher": teacher,
            "selection": config.selection.model_copy(update=scored),
            "rationales": config.rationales.model_copy(update={"max_attempts": 1}),
            "dispatch": DispatchConfig(schedule=schedule),
        }
    )
