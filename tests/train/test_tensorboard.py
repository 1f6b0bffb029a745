from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train.test_sft import PLAN, killed_in_step, read_losses
from train.plan import Execution
from train.sft import train_student


def train(folder: Path, model_dir: Path, dataset_dir: Path) -> None:
    train_student(
        PLAN,
        Execution(
            save_every_steps=2, tensorboard=True, eval_dataset=str(dataset_dir), eval_steps=4
        ),
        model_dir=model_dir,
        dataset_dir=dataset_dir,
        output_dir=folder / "student",
        metrics_file=folder / "metrics.jsonl",
        prompts="erased",
    )


def test_tensorboard_shows_one_curve_also_of_a_training_that_was_killed(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_in_step(6, monkeypatch):
        train(tmp_path, model_dir, dataset_dir)
    train(tmp_path, model_dir, dataset_dir)
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(each.step, each.value) for each in shown.Scalars("loss")]
    assert losses == [
        (step, pytest.approx(loss, rel=1e-6))
        for step, loss in enumerate(read_losses(tmp_path / "metrics.jsonl"), 1)
    ]
    assert [each.step for each in shown.Scalars("held_out/sums")] == [4, 8]


def test_without_the_package_the_key_is_refused_before_anything_is_read(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"orca2-gen\[tensorboard\]"):
        train(tmp_path, model_dir, dataset_dir)
