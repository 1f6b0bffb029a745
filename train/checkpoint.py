"""The states that a training resumes from.

    OUTPUT.training/step-00000120/  weights and optimizer state (safetensors), state.json

`saving` writes them. One may be read by another number of ranks than wrote it. What is no tensor,
such as an optimizer's rates, is not stored: the config determines it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.durable_files import sync_directory
from orca2_gen.run_directory.json_files import read_json
from train.lora import has_lora
from train.loss import LabelledLoss
from train.plan_changes import change_of_plan
from train.ranks import on_first_rank, rank
from train.state_files import read_tensors, refuse_state

STATE_RECORD = "state.json"
FORMAT = 2
"""Format of a state. The first, without a number, had pickled files."""
_OPTIMIZERS = "optimizers."
"""The beginning of the names of an optimizer's tensors."""
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
    fence: Callable[[], None] = lambda: None
    """Checks that the states are still this training's; every rank calls it."""
    stage_steps: tuple[int, ...] = ()
    """Steps of each stage."""
    keep: int = 1
    """The newest states that stay."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """What `--override` has changed so far, each with the step at which it was."""


def load_state(state: TrainingState, *, may_change: bool = False) -> int:
    """Loads the last complete state and returns its number of steps; 0 if there is none.

    Args:
        state: gets the weights and what the optimizers hold, and earlier changes.
        may_change: whether the plan may differ in what `CHANGEABLE` lists.

    Raises:
        ValueError: the state was written with other determinants.
        DamagedFile: a file of the state is not what `saving` writes.
    """
    found = on_first_rank(lambda: _last_record(state.directory))
    if found is None:
        return 0
    path, record = found
    step, determinants = record.get("step"), record.get("determinants")
    is_ours = isinstance(determinants, dict) and isinstance(step, int)
    if not is_ours or path.parent.name != f"step-{step:08d}":
        refuse_state(path.parent, f"{path} does not say which step of which training it belongs to")
    assert isinstance(step, int)
    sizes = _files_in(record, path)
    state.changes.extend(_list_in(record, "changes"))
    if change := _changed(state, step, path.parent, record):
        if not may_change:
            raise ValueError(
                f"{path.parent} belongs to another training run: {change}; restore the setting, "
                f"keep the change with --override, or remove {state.directory} to start again"
            )
        state.changes.append({"step": step, "change": change})
    contents, tensors = state_tensors(state)
    read_tensors(tensors, path.parent, sizes, may_be_absent=_OPTIMIZERS)
    set_state_dict(
        state.module,
        state.optimizers,
        model_state_dict=contents["module"],
        optim_state_dict=contents["optimizers"],
        options=_options(state),
    )
    return step


def _last_record(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """Path and contents of the record of the last complete state; None if there is none."""
    complete = sorted(directory.glob(f"step-*/{STATE_RECORD}"))
    return (complete[-1], read_object(complete[-1])) if complete else None


def _files_in(record: Mapping[str, Any], path: Path) -> Mapping[str, object]:
    """The bytes of each file of a state.

    Raises:
        ValueError: another version wrote the state.
        DamagedFile: the record names no files.
    """
    found = record.get("format")
    if found != FORMAT or isinstance(found, bool):
        older = "an older format, with pickled files" if found is None else f"format {found!r:.20}"
        raise ValueError(
            f"{path.parent} is a state of {older}, expected format {FORMAT}; finish that training "
            f"with the version that wrote it, or remove {path.parent} to start again"
        )
    files = record.get("files")
    if not isinstance(files, dict) or not files:
        refuse_state(path.parent, f"{path} does not name the files of the state")
    return files


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


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that anyone may have written."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} holds no JSON object; restore it from a copy")
    return value


def remove_states(state: TrainingState) -> None:
    """Removes the states after the student that they led to is complete."""
    if rank() == 0:
        shutil.rmtree(state.directory, ignore_errors=True)


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


def state_tensors(state: TrainingState) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The state dicts of module and optimizers, and the tensors in them by name.

    A tensor with two names, as tied embeddings have, is listed once.
    """
    untouched = [each for each in state.optimizers if not each.state]
    module, optimizers = get_state_dict(state.module, state.optimizers, options=_options(state))
    # torch lets an optimizer without a state take a step to have one; it has not stepped.
    for optimizer in untouched:
        for remembered in optimizer.state.values():
            for value in remembered.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
    parameters = state.module.named_parameters
    once = {name for name, _ in parameters()}
    twice = {name for name, _ in parameters(remove_duplicate=False)} - once
    tensors = {f"module.{name}": each for name, each in module.items() if name not in twice}
    for name, remembered in optimizers["state"].items():
        for key, value in remembered.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_OPTIMIZERS}{name}.{key}"] = value
    return {"module": module, "optimizers": optimizers}, tensors


def _options(state: TrainingState) -> StateDictOptions:
    """What of the module is stored: all of it, or with LoRA what is trained, since the model's
    digest among the determinants stands for the rest.
    """
    is_part = has_lora(state.module)
    return StateDictOptions(ignore_frozen_params=is_part, strict=not is_part)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object with sorted keys, for people too."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sync_files(directory: Path) -> None:
    """Brings the files of a directory to its disk."""
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
