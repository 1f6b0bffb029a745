"""Packages that some settings need and most installations lack."""

from __future__ import annotations

import importlib.util

from train.plan import Execution, TrainingPlan


def check_extras(plan: TrainingPlan, execution: Execution) -> None:
    """Checks that the packages of a training's settings are there.

    Raises:
        ValueError: one is not.
    """
    if plan.lora_rank is not None:
        check_extra("lora", package="peft", key="training.lora_rank")
    if execution.tensorboard:
        check_extra("tensorboard", package="tensorboard", key="training.tensorboard")


def check_extra(extra: str, *, package: str, key: str) -> None:
    """Checks that the package of an extra of ours is there.

    Raises:
        ValueError: it is not; one line with the key that needs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{key} is set and the package {package} is not installed; install it with "
            f'pip install "orca2-gen[{extra}]", or leave the key out'
        )
