"""The files of training: states to resume from, and the student that vLLM loads.

    OUTPUT.training/step-00000120/  weights, optimizer state, step (torch.distributed.checkpoint)
    OUTPUT/                         model.safetensors in bfloat16, config, tokenizer, chat template

Both are written under a temporary name beside their place and renamed when complete, so a killed
save is never taken for a model. A state may be read by another number of ranks than wrote it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from transformers import AutoConfig, AutoModelForCausalLM

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.run_directory.durable_files import sync_directory, temporary_name
from orca2_gen.run_directory.json_files import read_json
from train.loss import LabelledLoss
from train.plan_changes import change_of_plan
from train.ranks import rank, wait_for_ranks
from train.state_reader import read_state

TRAINING_RECORD = "training.json"
"""File in every student directory of ours that says what the student was made of."""

_STATE_RECORD = "state.json"
_OURS = re.compile(r"step-\d{8,}|\.step-\d{8,}\.tmp|driver\.lock|\.driver\.lock\.tmp-.*")
"""Names in a directory of states: states, those that were not finished, and the trainer's lock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """The parts that change during training, and the determinants that they belong to."""

    directory: Path
    """Directory of the states, one sub-directory each."""
    module: LabelledLoss
    optimizers: Sequence[torch.optim.Optimizer]
    determinants: Mapping[str, Any]
    """All that determines the loss curve; a state with others is refused."""
    stage_steps: tuple[int, ...] = ()
    """Steps of each stage."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """What `--override` has changed so far, each with the step at which it was."""


def save_state(state: TrainingState, step: int) -> Path:
    """Saves the state after `step` steps in place of older ones and returns its directory."""
    final = state.directory / f"step-{step:08d}"
    growing = state.directory / f".step-{step:08d}.tmp"  # one name for all ranks
    if rank() == 0:
        state.directory.mkdir(parents=True, exist_ok=True)
        for old in (growing, final):
            shutil.rmtree(old, ignore_errors=True)
    wait_for_ranks()
    with _one_process_is_fine():
        dcp.save(_tensors(state), checkpoint_id=growing)
    wait_for_ranks()
    if rank() == 0:
        record = {
            "step": step,
            "determinants": dict(state.determinants),
            "stage_steps": list(state.stage_steps),
            "changes": state.changes,
        }
        _write_json(growing / _STATE_RECORD, record)
        _sync_files(growing)
        os.replace(growing, final)
        sync_directory(state.directory)
        for old in state.directory.glob("step-*"):
            if old != final:
                shutil.rmtree(old)
    wait_for_ranks()
    return final


def load_state(state: TrainingState, *, may_change: bool = False) -> int:
    """Loads the last complete state and returns its number of steps; 0 if there is none.

    Args:
        state: gets the weights and what the optimizers hold, and earlier changes.
        may_change: whether the plan may differ in what `CHANGEABLE` lists.

    Raises:
        ValueError: the state was written with other determinants.
        DamagedFile: a file of the state is not what `save_state` writes.
    """
    complete = sorted(state.directory.glob(f"step-*/{_STATE_RECORD}"))
    if not complete:
        return 0
    path = complete[-1]
    record = _read_object(path)
    step, determinants = record.get("step"), record.get("determinants")
    is_ours = isinstance(determinants, dict) and isinstance(step, int)
    if not is_ours or path.parent.name != f"step-{step:08d}":
        raise DamagedFile(
            f"{path} does not say which step of which training it belongs to; restore "
            f"{path.parent} from a copy, or remove it to start the training again"
        )
    assert isinstance(step, int)
    state.changes.extend(_list_in(record, "changes"))
    if change := _changed(state, step, path.parent, record):
        if not may_change:
            raise ValueError(
                f"{path.parent} belongs to another training run: {change}; restore the setting, "
                f"keep the change with --override, or remove {state.directory} to start again"
            )
        state.changes.append({"step": step, "change": change})
    tensors = _tensors(state)
    with _one_process_is_fine():
        read_state(tensors, path.parent)
    set_state_dict(
        state.module,
        state.optimizers,
        model_state_dict=tensors["module"],
        optim_state_dict=tensors["optimizers"],
    )
    return step


def _list_in(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []


def _changed(state: TrainingState, step: int, directory: Path, record: Mapping[str, Any]) -> str:
    """What of the plan has changed since a state, of what may; "" if nothing.

    Raises:
        ValueError: something else has.
    """
    try:
        return change_of_plan(
            record["determinants"],
            state.determinants,
            step=step,
            stage_steps=(_list_in(record, "stage_steps"), state.stage_steps),
        )
    except ValueError as error:
        raise ValueError(
            f"{directory} belongs to another training run: {error}; restore the setting, "
            f"or remove {state.directory} to start again"
        ) from None


def _read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that anyone may have written."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} holds no JSON object; restore it from a copy")
    return value


def remove_states(state: TrainingState) -> None:
    """Removes the states after the student that they led to is complete."""
    if rank() == 0:
        shutil.rmtree(state.directory, ignore_errors=True)


def check_replaceable(output_dir: Path) -> None:
    """Checks that a student may be written to `output_dir`.

    Raises:
        ValueError: it holds something that training did not make.
    """
    if output_dir.is_symlink() or (output_dir.exists() and not output_dir.is_dir()):
        raise ValueError(f"{output_dir} is not a directory; give another output")
    ours = (output_dir / TRAINING_RECORD).is_file()
    if not ours and output_dir.is_dir() and any(output_dir.iterdir()):
        raise ValueError(
            f"{output_dir} holds files but no {TRAINING_RECORD}, so it is not a student of ours "
            f"and is not overwritten; give another output, or remove it"
        )


def check_states(directory: Path) -> None:
    """Checks that states may be written to `directory`, and removed from it.

    Raises:
        ValueError: it holds something that training did not make.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ValueError(f"{directory} is not a directory; remove it, or give another output")
    for path in sorted(directory.iterdir()) if directory.exists() else ():
        if not _OURS.fullmatch(path.name):
            raise ValueError(
                f"{directory} holds {path.name[:100]!a}, which training did not make; states are "
                f"written there and removed in the end: move it away, or give another output"
            )


def read_training_record(output_dir: Path) -> dict[str, Any] | None:
    """The record of what the student in `output_dir` was made of; None if there is none.

    Raises:
        DamagedFile: it is no record.
    """
    path = output_dir / TRAINING_RECORD
    return _read_object(path) if path.is_file() else None


def save_student(
    model: nn.Module, *, model_dir: Path, output_dir: Path, record: Mapping[str, Any]
) -> None:
    """Writes the trained model in bfloat16, with the tokenizer files of `model_dir`.

    Every rank calls it; rank 0 writes.

    Args:
        model: the transformers model, sharded or not.
        model_dir: the model that training started from.
        output_dir: appears or is replaced when all is written.
        record: the contents of training.json.
    """
    check_replaceable(output_dir)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if rank() == 0:
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        growing = temporary_name(output_dir)
        try:
            _whole_model(weights, model_dir).save_pretrained(growing)
            for name in TOKENIZER_FILES:
                if (model_dir / name).is_file():
                    shutil.copyfile(model_dir / name, growing / name)
            _write_json(growing / TRAINING_RECORD, record)
            _sync_files(growing)
            _replace_directory(growing, output_dir)
        finally:
            shutil.rmtree(growing, ignore_errors=True)
    wait_for_ranks()


def _whole_model(weights: dict[str, Any], model_dir: Path) -> Any:
    """An unsharded bfloat16 model of these weights; a sharded one cannot write itself."""
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, trust_remote_code=False
        )
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    model.load_state_dict(rounded, assign=True, strict=True)
    model.tie_weights()
    return model


def _replace_directory(growing: Path, final: Path) -> None:
    """Renames `growing` to `final`, in place of an older student."""
    aside = temporary_name(final)
    # A directory cannot be renamed over a full one, so an old student steps aside first.
    if final.exists():
        os.replace(final, aside)
    os.replace(growing, final)
    sync_directory(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _tensors(state: TrainingState) -> dict[str, Any]:
    module, optimizers = get_state_dict(state.module, state.optimizers)
    return {"module": module, "optimizers": optimizers}


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """Keeps torch from warning that there is no process group; training alone is not a mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
        yield


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _sync_files(directory: Path) -> None:
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
