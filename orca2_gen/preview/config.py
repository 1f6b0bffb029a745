"""The config of a preview: its run's, but for how many problems there are and how many engines."""

from __future__ import annotations

import itertools
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig

SUFFIX = "-preview"
"""Ending of a preview's run directory, after that of its run."""
ALL = 1_000_000
"""More problems than any group of a preview has."""


def preview_config(config: Config, num_rows: int) -> Config:
    """The config of a preview.

    Every strategy is scored on every problem, on one engine of each model, and no rate of
    rejections ends it.

    Args:
        config: config of the run, with the preview's run_dir.
        num_rows: problems of each task, in a mixture of each task in it.
    """
    one = {
        role: engine.model_copy(update={"replicas": 1})
        for role in ("student", "teacher", "judge")
        if (engine := getattr(config, role)) is not None
    }
    whole = {"method": "full_grid", "scored_problems": ALL}
    alone = {"schedule": "phased", "min_replicas": 1, "max_rejection_rate": 1.0}
    return config.model_copy(
        update={
            **one,
            "tasks": tuple(_sampled(task, num_rows) for task in config.tasks),
            "selection": config.selection.model_copy(update=whole),
            "dispatch": config.dispatch.model_copy(update=alone),
        }
    )


def preview_directory(run_dir: str) -> Path:
    """A directory for a preview that no earlier one has.

    Settings are what changes between two previews, and a run directory holds rows of one setting.
    """
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    places = (Path(f"{run_dir}{SUFFIX}{number}") for number in numbers)
    return next(place for place in places if not place.exists())


def _sampled(task: TaskConfig, num_rows: int) -> TaskConfig:
    most = num_rows if task.rows_per_task is None else min(num_rows, task.rows_per_task)
    return task.model_copy(update={"rows_per_task": most})
