"""The student that training leaves, as vLLM loads it.

    OUTPUT/   model.safetensors in bfloat16, config, tokenizer, chat template, training.json

It is written under a temporary name beside its place and renamed when complete, so a killed save is
never taken for a model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM

from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.run_directory.durable_files import sync_directory, temporary_name
from train.checkpoint import read_object, sync_files, write_json
from train.ranks import rank, wait_for_ranks

TRAINING_RECORD = "training.json"
"""File in every student directory of ours that says what the student was made of."""


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


def read_training_record(output_dir: Path) -> dict[str, Any] | None:
    """The record of what the student in `output_dir` was made of; None if there is none.

    Raises:
        DamagedFile: it is no record.
    """
    path = output_dir / TRAINING_RECORD
    return read_object(path) if path.is_file() else None


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
            write_json(growing / TRAINING_RECORD, record)
            sync_files(growing)
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
