from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from tests.train.test_checkpoint import load, state_in, take_a_step
from tests.train.test_sft import PLAN, killed_in_step, read_losses, run_training
from tests.train.test_stages import not_finite_in_step, stopped_in_step
from train.checkpoint import STATE_RECORD, TrainingState, load_state
from train.fit import NotFiniteError
from train.pace import Pace
from train.plan import Execution
from train.saving import Saver, save_state
from train.sft import train_student


@contextmanager
def held_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The real writer waits for an event before it writes the tensors it was given."""
    go, real = threading.Event(), HuggingFaceStorageWriter.write_data

    def write_data(self: HuggingFaceStorageWriter, *arguments: Any) -> Any:
        assert go.wait(60)
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(HuggingFaceStorageWriter, "write_data", write_data)
        try:
            yield go
        finally:
            go.set()


def saver_of(state: TrainingState) -> tuple[Saver, Pace]:
    pace = Pace(1)
    return Saver(state, pace, is_async=True), pace


def contents(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def test_a_state_written_beside_the_steps_is_that_of_its_own_step(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = state_in(tmp_path / "beside", load(model_dir), seed=1)
    between = state_in(tmp_path / "between", load(model_dir), seed=1)
    for state in (beside, between):
        take_a_step(state)
    expected = save_state(between, 1)
    saver, pace = saver_of(beside)
    with held_back(monkeypatch) as go:
        saver.save(1)
        take_a_step(beside)  # the weights change in place before a byte is written
        saver.finish_if_written()
        assert pace.saved_step == 0 and load_state(state_in(beside.directory, load(model_dir))) == 0
        go.set()
        saver.finish()
    assert pace.saved_step == 1
    found, wanted = contents(beside.directory / expected.name), contents(expected)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    records = [
        json.loads((folder / STATE_RECORD).read_text())
        for folder in (beside.directory / expected.name, expected)
    ]
    assert records[0] == records[1]


def test_a_written_state_is_put_in_its_place_between_two_steps(
    tmp_path: Path, model_dir: Path
) -> None:
    state = state_in(tmp_path, load(model_dir), seed=1)
    saver, pace = saver_of(state)
    saver.save(3)
    for _ in range(2000):
        if pace.saved_step:
            break
        saver.finish_if_written()
        threading.Event().wait(0.01)
    assert pace.saved_step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_the_next_state_waits_for_the_one_before(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_in(tmp_path, load(model_dir), seed=1)
    saver, pace = saver_of(state)
    with held_back(monkeypatch) as go:
        saver.save(1)
        assert load_state(state_in(tmp_path, load(model_dir), seed=1)) == 0
        go.set()
        saver.save(2)
        assert pace.saved_step == 1
    saver.finish()
    assert pace.saved_step == 2 and load_state(state) == 2


def test_a_state_that_is_being_written_is_none_yet_and_the_one_before_stays(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_in(tmp_path, load(model_dir), seed=1)
    save_state(state, 1)
    saver, _ = saver_of(state)

    def fail(self: HuggingFaceStorageWriter, *arguments: Any) -> Any:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", fail)
    saver.save(2)
    with pytest.raises(OSError, match=r"the state of step 2 cannot be written to .*No space left"):
        saver.finish()
    assert load_state(state) == 1
    saver.finish()  # what failed is not waited for again


def test_a_training_that_saves_beside_its_steps_has_the_same_curve_and_goes_on_after_a_kill(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(tmp_path / "whole", model_dir, dataset_dir)
    with killed_in_step(6, monkeypatch):
        run_training(
            tmp_path / "killed", model_dir, dataset_dir, save_every_steps=2, async_save=True
        )
    run_training(tmp_path / "killed", model_dir, dataset_dir, save_every_steps=2, async_save=True)
    expected = read_losses(tmp_path / "whole/metrics.jsonl")
    assert read_losses(tmp_path / "killed/metrics.jsonl") == expected
    found, wanted = (contents(tmp_path / name / "student") for name in ("killed", "whole"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not (tmp_path / "killed/student.training").exists()


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_step_that_is_not_finite_leaves_the_state_before_it_whole(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with not_finite_in_step(5, monkeypatch), pytest.raises(NotFiniteError, match="step 5 of"):
        run_training(tmp_path, model_dir, dataset_dir, save_every_steps=every, async_save=True)
    [state] = (tmp_path / "student.training").glob("*step*")
    assert state.name == "step-00000004" and (state / STATE_RECORD).is_file()


def test_a_training_that_is_stopped_ends_when_its_last_state_is_whole(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    with stopped_in_step(3, stop, monkeypatch), pytest.raises(KeyboardInterrupt, match="of step"):
        train_student(
            PLAN,
            Execution(async_save=True),
            model_dir=model_dir,
            dataset_dir=dataset_dir,
            output_dir=tmp_path / "student",
            metrics_file=tmp_path / "metrics.jsonl",
            prompts="erased",
            stop=stop,
        )
    done = len(read_losses(tmp_path / "metrics.jsonl"))
    [state] = (tmp_path / "student.training").glob("*step*")
    assert state.name == f"step-{done:08d}" and (state / STATE_RECORD).is_file()
