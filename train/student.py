"""The student that training leaves, as vLLM loads it.

    OUTPUT/   model.safetensors in bfloat16, or several files and their index, config, tokenizer,
              chat template, training.json

It is written under a temporary name beside its place and renamed when complete, so a killed save is
never taken for a model.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor, Shard
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.run_directory.durable_files import sync_directory, temporary_name
from train.architecture import layers_of
from train.checkpoint import read_object, sync_files, write_json
from train.lora import merge_lora
from train.ranks import on_first_rank, rank

TRAINING_RECORD = "training.json"
"""File in every student directory of ours that says what the student was made of."""
FILE_BYTES = 5_000_000_000
"""Bytes of a file of weights, unless one layer has more."""


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
    """Writes the trained model in bfloat16, with the tokenizer files of `model_dir`; what LoRA has
    trained is part of its weights from then on.

    Every rank calls it; rank 0 writes, and holds no more than one file of the others' weights.

    Args:
        model: the transformers model, sharded or not.
        model_dir: the model that training started from.
        output_dir: appears or is replaced when all is written.
        record: the contents of training.json.

    Raises:
        OSError: it cannot be written.
    """
    growing = on_first_rank(lambda: _place_for(output_dir))
    merge_lora(model)
    try:
        files = _write_weights(model, model_dir, growing)
        on_first_rank(lambda: _complete(growing, output_dir, files, model_dir, record))
    finally:
        if rank() == 0:
            shutil.rmtree(growing, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _WrittenFile:
    """One file of weights."""

    name: str
    tensors: Mapping[str, int]
    """Name of each tensor -> its bytes."""


def _place_for(output_dir: Path) -> Path:
    check_replaceable(output_dir)
    growing = temporary_name(output_dir)
    growing.mkdir(parents=True)
    return growing


def _write_weights(model: nn.Module, model_dir: Path, growing: Path) -> list[_WrittenFile]:
    """Writes the weights and returns their files, on rank 0."""
    weights: dict[str, torch.Tensor] = get_model_state_dict(model)
    first_of = _first_names(model)
    parts = _parts_of(model, weights, first_of)
    whole = _described(model_dir)
    written: list[_WrittenFile] = []
    for number, names in enumerate(parts):
        gathered: dict[str, torch.Tensor] = {}
        for name in names:
            first = first_of.get(name, name)
            if first != name:  # the same tensor again, which must show for transformers to drop it
                gathered |= {name: gathered[first]} if rank() == 0 else {}
                continue
            whole_tensor = _on_first_rank(weights[name].detach())
            if whole_tensor is not None:
                gathered[name] = whole_tensor.cpu()
        if rank() == 0:
            written.append(_write_part(whole, gathered, growing, number, len(parts)))
    return written


def _on_first_rank(tensor: torch.Tensor) -> torch.Tensor | None:
    """The whole tensor on rank 0, rounded to bfloat16 before it travels; None on other ranks.

    All ranks take part. A gathering by all would leave a copy in float32 on each of them.
    """
    dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
    if not isinstance(tensor, DTensor):
        return tensor.to(dtype) if rank() == 0 else None
    *_, placement = tensor.placements
    if placement != Shard(0):  # FSDP shards the first dimension unless it is told otherwise
        whole = tensor.to(dtype).full_tensor()
        return whole if rank() == 0 else None
    own = tensor.to_local().to(dtype).contiguous()
    # Where each node holds a copy, those ranks send that hold the first.
    holders = tensor.device_mesh.mesh.reshape(-1, tensor.device_mesh.shape[-1])[0].tolist()
    if rank() == 0:
        whole = torch.empty(tensor.shape, dtype=dtype, device=own.device)
        rows = math.ceil(len(whole) / len(holders))
        parts = dict(zip(holders, whole.split(max(1, rows)), strict=False))
        parts.pop(0).copy_(own)
        _exchange([dist.P2POp(dist.irecv, part, holder) for holder, part in parts.items()])
        return whole
    if rank() in holders and own.numel():
        _exchange([dist.P2POp(dist.isend, own, 0)])
    return None


def _exchange(operations: list[Any]) -> None:
    """Sends or receives; one by one, NCCL would open a communicator with memory for each pair."""
    for work in dist.batch_isend_irecv(operations) if operations else ():
        work.wait()


def _first_names(model: nn.Module) -> dict[str, str]:
    """Name of each parameter -> the first of its names: tied weights have several."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def _parts_of(
    model: nn.Module, weights: Mapping[str, torch.Tensor], first_of: Mapping[str, str]
) -> list[list[str]]:
    """The names of each file's weights; a layer's lie together.

    transformers may make several tensors of a layer one, and that undone needs all of them. Two
    names of one tensor lie together too, of which it writes one.
    """
    layers = {id(layer) for layer in layers_of(model)}
    prefixes = [f"{name}." for name, module in model.named_modules() if id(module) in layers]
    groups: dict[str, list[str]] = {}
    for name in weights:
        first = first_of.get(name, name)
        prefix = next((each for each in prefixes if first.startswith(each)), first)
        groups.setdefault(prefix, []).append(name)
    parts: list[list[str]] = [[]]
    num_bytes = 0
    for names in groups.values():
        names.sort(key=lambda name: first_of.get(name, name) != name)  # first names come first
        size = sum(2 * weights[name].numel() for name in names)
        if parts[-1] and num_bytes + size > FILE_BYTES:
            parts.append([])
            num_bytes = 0
        parts[-1] += names
        num_bytes += size
    return parts


def _described(model_dir: Path) -> Any:
    """The bfloat16 model of a config without values, which knows how transformers names weights."""
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, trust_remote_code=False
        )


def _write_part(
    whole: Any, tensors: dict[str, torch.Tensor], growing: Path, number: int, num_parts: int
) -> _WrittenFile:
    """Writes one file as transformers writes a model that has these weights only.

    Its config stays in a directory of the part until that of the first is taken.
    """
    here = growing / f"part-{number}"
    whole.save_pretrained(here, state_dict=tensors, max_shard_size=sys.maxsize)
    name = "model.safetensors"
    if num_parts > 1:
        name = f"model-{number + 1:05d}-of-{num_parts:05d}.safetensors"
    made = here / "model.safetensors"
    # Its mode is 0600, whatever the umask.
    shutil.copymode(here / "config.json", made)
    with safe_open(made, framework="pt") as file:
        sizes = {key: _bytes_of(file.get_slice(key)) for key in file.keys()}  # noqa: SIM118
    os.replace(made, growing / name)
    return _WrittenFile(name=name, tensors=sizes)


def _bytes_of(stored: Any) -> int:
    bits = re.search(r"[0-9]+", stored.get_dtype())
    width = int(bits.group()) // 8 if bits else 1
    return width * math.prod(map(int, stored.get_shape()))


def _complete(
    growing: Path,
    output_dir: Path,
    files: Sequence[_WrittenFile],
    model_dir: Path,
    record: Mapping[str, Any],
) -> None:
    """Adds what is no weight, and puts the student in its place."""
    for path in sorted((growing / "part-0").iterdir()):
        os.replace(path, growing / path.name)
    for path in growing.glob("part-*"):
        shutil.rmtree(path)
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(sum(file.tensors.values()) for file in files)},
            "weight_map": {name: file.name for file in files for name in file.tensors},
        }
        write_json(growing / SAFE_WEIGHTS_INDEX_NAME, index)
    for name in TOKENIZER_FILES:
        if (model_dir / name).is_file():
            shutil.copyfile(model_dir / name, growing / name)
    write_json(growing / TRAINING_RECORD, record)
    sync_files(growing)
    _replace_directory(growing, output_dir)


def _replace_directory(growing: Path, final: Path) -> None:
    """Renames `growing` to `final`, in place of an older student."""
    aside = temporary_name(final)
    # A directory cannot be renamed over a full one, so an old student steps aside first.
    if final.exists():
        os.replace(final, aside)
    os.replace(growing, final)
    sync_directory(final.parent)
    shutil.rmtree(aside, ignore_errors=True)
