"""Trainings of several stages: their curves, resumed anywhere, and what may change on the way."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.test_sft import PLAN, killed_in_step, read_losses
from train.examples import load_examples
from train.fit import NotFiniteError
from train.plan import Execution, StagePlan, TrainingPlan, WeightedDataset
from train.sft import TrainedStudent, train_student


@pytest.fixture
def staged(dataset_dir: Path, tmp_path: Path) -> TrainingPlan:
    """Three stages of 3, 4 and 3 steps; the second mixes two datasets, the third forgets."""
    other = tmp_path / "other"
    shutil.copytree(dataset_dir, other)
    mixture = (WeightedDataset(path=dataset_dir, weight=0.5), WeightedDataset(path=other))
    common: dict[str, Any] = {"num_epochs": 1, "warmup_fraction": 0.1}
    return replace(
        PLAN,
        stages=(
            StagePlan(datasets=(), num_steps=3, learning_rate=3e-3, **common),
            StagePlan(
                datasets=mixture, num_steps=4, learning_rate=1e-3, schedule="linear", **common
            ),
            StagePlan(
                datasets=(WeightedDataset(path=other),),
                num_steps=3,
                learning_rate=3e-4,
                schedule="constant",
                optimizer_state="reset",
                **common,
            ),
        ),
    )


def run(
    folder: Path,
    model_dir: Path,
    dataset_dir: Path,
    plan: TrainingPlan,
    *,
    every: int | None = 1,
    **asked: Any,
) -> TrainedStudent:
    folder.mkdir(exist_ok=True)
    return train_student(
        plan,
        Execution(save_every_steps=every),
        model_dir=model_dir,
        dataset_dir=dataset_dir,
        output_dir=folder / "student",
        metrics_file=folder / "metrics.jsonl",
        prompts="erased",
        **asked,
    )


def test_each_stage_has_its_own_learning_rate_and_the_steps_count_on(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, staged: TrainingPlan
) -> None:
    student = run(tmp_path / "run", model_dir, dataset_dir, staged)
    assert student.num_steps == 10 and student.num_examples == 120
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["learning_rate"] for line in lines]
    assert max(rates[:3]) == 3e-3 and max(rates[3:7]) == 1e-3 and rates[7:] == [3e-4] * 3
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))


@pytest.mark.parametrize("step", range(1, 11))
def test_a_training_killed_in_any_step_of_any_stage_goes_on_with_the_same_curve(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    staged: TrainingPlan,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(tmp_path / "whole", model_dir, dataset_dir, staged)
    with killed_in_step(step, monkeypatch):
        run(tmp_path / "killed", model_dir, dataset_dir, staged, every=2)
    run(tmp_path / "killed", model_dir, dataset_dir, staged, every=2)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "killed")]
    assert read_losses(files[1]) == pytest.approx(read_losses(files[0]), rel=1e-6)
    students = [tmp_path / name / "student/model.safetensors" for name in ("whole", "killed")]
    assert students[0].read_bytes() == students[1].read_bytes()


def test_a_stage_that_resets_the_optimizer_differs_from_one_that_keeps_it(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, staged: TrainingPlan
) -> None:
    kept = replace(
        staged, stages=(*staged.stages[:2], replace(staged.stages[2], optimizer_state="keep"))
    )
    for name, plan in (("reset", staged), ("kept", kept)):
        run(tmp_path / name, model_dir, dataset_dir, plan)
    losses = [read_losses(tmp_path / name / "metrics.jsonl") for name in ("reset", "kept")]
    assert losses[0][:8] == losses[1][:8] and losses[0][9] != losses[1][9]


def test_a_training_that_is_asked_to_stop_saves_its_state_and_loses_no_step(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", model_dir, dataset_dir, PLAN)
    stop = threading.Event()
    with stopped_in_step(4, stop, monkeypatch), pytest.raises(KeyboardInterrupt, match="step 4 of"):
        run(tmp_path / "stopped", model_dir, dataset_dir, PLAN, every=None, stop=stop)
    assert len(read_losses(tmp_path / "stopped/metrics.jsonl")) == 4
    with killed_in_step(1, monkeypatch):  # the state of step 4 is there, not of an earlier one
        run(tmp_path / "stopped", model_dir, dataset_dir, PLAN, every=None)
    assert len(read_losses(tmp_path / "stopped/metrics.jsonl")) == 4
    run(tmp_path / "stopped", model_dir, dataset_dir, PLAN, every=None)
    assert read_losses(tmp_path / "stopped/metrics.jsonl") == pytest.approx(
        read_losses(tmp_path / "whole/metrics.jsonl"), rel=1e-6
    )


@contextmanager
def stopped_in_step(
    step: int, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The signal comes while this step's batch is being built."""
    real, steps = torch.optim.AdamW.step, itertools.count(2)

    def asked(self: torch.optim.AdamW, closure: None = None) -> None:
        if next(steps) == step:
            stop.set()
        real(self, closure)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", asked)
        yield


@contextmanager
def not_finite_in_step(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gradient of this step is no number, whatever step training starts from."""
    real = torch.nn.utils.clip_grad_norm_
    metrics = itertools.count(1)

    def clipped(parameters: Any, most: float) -> torch.Tensor:
        norm = real(parameters, most)
        return norm * float("nan") if next(metrics) == step else norm

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
        yield


def test_a_step_that_is_not_finite_names_its_examples_and_costs_one_batch(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with not_finite_in_step(5, monkeypatch), pytest.raises(NotFiniteError) as stopped:
        run(tmp_path / "run", model_dir, dataset_dir, PLAN, every=None)
    said = str(stopped.value)
    assert said.startswith("step 5 of 8: loss ") and "sums/train/" in said
    assert "training.skip_steps=[5]" in said
    skipping = replace(PLAN, skip_steps=(5,))
    run(tmp_path / "run", model_dir, dataset_dir, skipping, every=None)
    losses = read_losses(tmp_path / "run/metrics.jsonl")
    assert losses[4] is None and len(losses) == 8
    run(tmp_path / "whole", model_dir, dataset_dir, PLAN)
    whole = read_losses(tmp_path / "whole/metrics.jsonl")
    assert losses[:4] == pytest.approx(whole[:4], rel=1e-6)
    assert losses[5] is not None and losses[5] != pytest.approx(whole[5], rel=1e-6)


@pytest.mark.parametrize("step", [3, 4, 5, 8])
def test_a_step_that_is_not_finite_loses_no_step_at_the_border_of_a_stage(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    staged: TrainingPlan,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with not_finite_in_step(step, monkeypatch), pytest.raises(NotFiniteError):
        run(tmp_path / "run", model_dir, dataset_dir, staged, every=None)
    [state] = (tmp_path / "run/student.training").glob("step-*")
    assert state.name == f"step-{step - 1:08d}"


def test_the_only_state_is_never_removed_before_another_is_whole(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **others: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("train.student.shutil.copyfile", full)
        run(tmp_path / "run", model_dir, dataset_dir, PLAN, every=None)
    [state] = (tmp_path / "run/student.training").glob("step-*")
    before = sorted((path.name, path.stat().st_ino) for path in state.iterdir())
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("train.student.shutil.copyfile", full)
        run(tmp_path / "run", model_dir, dataset_dir, PLAN, every=None)
    assert sorted((path.name, path.stat().st_ino) for path in state.iterdir()) == before
    run(tmp_path / "run", model_dir, dataset_dir, PLAN, every=None)
    assert len(read_losses(tmp_path / "run/metrics.jsonl")) == 8


def test_a_learning_rate_is_changed_on_the_way_only_if_it_is_wanted_and_is_recorded(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_in_step(4, monkeypatch):
        run(tmp_path / "run", model_dir, dataset_dir, PLAN)
    slower = replace(PLAN, learning_rate=1e-5)
    with pytest.raises(ValueError, match=r"learning_rate: 0\.003 -> 1e-05.*--override"):
        run(tmp_path / "run", model_dir, dataset_dir, slower)
    with pytest.raises(ValueError, match=r"plan\.seed: 5 -> 6"):
        run(tmp_path / "run", model_dir, dataset_dir, replace(PLAN, seed=6), may_change=True)
    run(tmp_path / "run", model_dir, dataset_dir, slower, may_change=True)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["learning_rate"] for line in lines]
    assert rates[1] == 3e-3 and rates[3] <= 1e-5
    record = json.loads((tmp_path / "run/student/training.json").read_text())
    assert record["changes"] == [{"step": 3, "change": "plan.learning_rate: 0.003 -> 1e-05"}]


def test_examples_that_are_too_long_are_dropped_and_counted_only_if_that_is_wanted(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = load_examples(dataset_dir, prompts="erased", model_dir=model_dir).lengths_E
    seq_len = sorted(lengths.tolist())[30]
    kept = sum(length <= seq_len for length in lengths)
    short = replace(PLAN, seq_len=seq_len)
    with pytest.raises(ValueError, match="none is ever cut"):
        run(tmp_path / "refused", model_dir, dataset_dir, short)
    student = run(tmp_path / "run", model_dir, dataset_dir, replace(short, too_long="drop"))
    assert student.num_examples == kept < len(lengths)
    said = capsys.readouterr().err
    assert f"{60 - kept} of 60 examples have more than {seq_len} tokens (seq_len)" in said
    assert "the training has 8 steps" in said


def test_a_plan_without_stages_is_recorded_as_before_there_were_any() -> None:
    assert PLAN.recorded().keys() == {
        *("seq_len", "rows_per_step", "num_epochs", "num_steps", "learning_rate", "dtype", "seed"),
        *("warmup_fraction", "optimizer", "weight_decay", "max_grad_norm", "max_rows_per_task"),
    }
