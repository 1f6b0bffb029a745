"""Are a model's weights all there? Asked of headers and index; no weight is read."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.preflight.headers import Tensor, check_no_pointer, read_header
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

MOST_INDEX_BYTES = 256 << 20
"""Bytes of an index; that of the largest published model has ten million."""
SINGLE = "model.safetensors"
INDEX = f"{SINGLE}.index.json"
"""Names under which transformers looks for weights."""
CONSOLIDATED = "consolidated"
"""Beginning of the names of Mistral's own files, which vLLM prefers where they are."""
_PART = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The tensors that a model's engine reads, and lines for people about them."""

    tensors: Mapping[str, Tensor]
    """Name -> tensor."""
    facts: tuple[str, ...]
    odd: tuple[str, ...]


def read_weights(key: str, directory: Path) -> Weights:
    """The Weights of a model's directory.

    Args:
        key: key in the config that names the directory.
        directory: the model's.

    Raises:
        ValueError: they are not whole; one line that names key, directory and remedy.
    """
    found = sorted(path.name for path in directory.glob("*.safetensors"))
    names = [name for name in found if not name.startswith("adapter_")]
    if not names:
        raise ValueError(f"{key}: {_no_weights(directory, has_adapter=bool(found))}")
    try:
        read, index, odd = _read_files(directory, names)
        tensors = {name: read_header(directory / name) for name in read}
    except FileNotFoundError as error:
        raise ValueError(
            f"{key}: {error.filename} is gone; keep the model as it is during a run"
        ) from None
    except ValueError as error:
        remedy = "; copy it again" if isinstance(error, UnusableFile) else ""
        raise ValueError(f"{key}: {error}{remedy}") from error
    held = {name for file in tensors.values() for name in file}
    if absent := sorted(set(index) - held):
        raise ValueError(
            f"{key}: {directory} lacks {len(absent)} of the {len(index)} tensors that its index "
            f"names, for example {absent[0]}; copy the model again"
        )
    if not held:
        raise ValueError(f"{key}: {directory} holds no tensor in {read[0]}; copy the model again")
    odd += _doubts(directory, tensors, index)
    return Weights(
        tensors={name: tensor for file in tensors.values() for name, tensor in file.items()},
        facts=(_sizes(tensors),),
        odd=tuple(odd),
    )


def _read_files(
    directory: Path, names: Sequence[str]
) -> tuple[list[str], Mapping[str, str], list[str]]:
    """The files that vLLM reads, the index that names them, if any, and what is odd about them.

    Raises:
        ValueError: a file is absent.
    """
    own = [name for name in names if name.startswith(CONSOLIDATED)]
    stem = CONSOLIDATED if own else "model"
    index_path = directory / f"{stem}.safetensors.index.json"
    among = own or list(names)
    odd = []
    if own and len(own) < len(names):
        others = [name for name in names if name not in own]
        odd.append(f"vLLM reads {_some(own)}, training reads the others ({_some(others)})")
    try:
        index = _index(index_path)
    except FileNotFoundError:
        _check_parts(directory, among)
        if len(among) > 1 and not own:
            odd.append(
                f"no {index_path.name} names its {len(among)} files of weights; vLLM reads all of "
                "them, training needs the index"
            )
        return among, {}, odd
    read = sorted(set(index.values()))
    absent = [name for name in read if not os.path.lexists(directory / name)]
    if absent:
        raise ValueError(
            f"{directory} lacks {len(absent)} of the {len(read)} files of weights that "
            f"{index_path.name} names: {_some(absent)}; copy them too"
        )
    if more := [name for name in among if name not in read]:
        odd.append(
            f"{index_path.name} does not name {_some(more)}, so vLLM leaves it out"
            + (f", but training reads {SINGLE}" if SINGLE in more else "")
        )
    return read, index, odd


def _index(path: Path) -> dict[str, str]:
    """The index of a model's weights: tensor -> file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or leads elsewhere.
    """
    body = read_regular(path, MOST_INDEX_BYTES)
    check_no_pointer(path, body)
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged: not JSON; copy it again") from None
    index = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(index, dict) or not index:
        raise ValueError(f'{path} is damaged: it has no table "weight_map"; copy it again')
    for file in index.values():
        if not (isinstance(file, str) and file.endswith(".safetensors") and "/" not in file):
            raise ValueError(
                f"{path} names the weights file {file!a:.100}; expected a .safetensors file beside "
                "it: convert the weights with save_pretrained"
            )
    return index


def _check_parts(directory: Path, names: Sequence[str]) -> None:
    """Checks that files numbered `-00001-of-00003` are all there.

    Raises:
        ValueError: one is not.
    """
    numbers = defaultdict(set)
    for name in names:
        if part := _PART.fullmatch(name):
            numbers[part[1], part[3]].add(int(part[2]))
    for (stem, count), there in numbers.items():
        if absent := [n for n in range(1, int(count) + 1) if n not in there][:1000]:
            width = len(count)
            lacked = [f"{stem}-{n:0{width}}-of-{count}.safetensors" for n in absent]
            raise ValueError(
                f"{directory} lacks {len(lacked)} of {int(count)} files of weights: "
                f"{_some(lacked)}; copy them too"
            )


def _no_weights(directory: Path, *, has_adapter: bool) -> str:
    """Why a directory without files of weights has none, and what to do."""
    if has_adapter or (directory / _ADAPTER).is_file():
        return (
            f"{directory} holds an adapter and not a model; merge it into its model "
            "(merge_and_unload of peft), and save that with save_pretrained"
        )
    if not any(directory.iterdir()):
        return f"{directory} is empty; copy the model there"
    if pickles := sorted(path.name for each in _PICKLES for path in directory.glob(each)):
        return (
            f"{directory} holds no .safetensors file, and {_some(pickles)} could run code when "
            "read; convert the weights with save_pretrained"
        )
    if snapshots := sorted(directory.glob("snapshots/*/config.json")):
        return f"{directory} is a download cache; give {snapshots[0].parent}"
    return (
        f"{directory} holds no .safetensors file; copy the model's weights there, or convert them "
        "with save_pretrained first"
    )


def _doubts(
    directory: Path, tensors: Mapping[str, Mapping[str, Tensor]], index: Mapping[str, str]
) -> Iterator[str]:
    """Lines about tensors that lie elsewhere than expected, and an adapter that is not applied."""
    if (directory / _ADAPTER).is_file():
        yield f"the adapter beside the model ({_ADAPTER}) is not applied"
    places = defaultdict(list)
    for file, held in tensors.items():
        for name in held:
            places[name].append(file)
    if twice := [name for name, files in places.items() if len(files) > 1]:
        yield f"{_some(twice)} stands in several files: {_some(places[twice[0]])}"
    elif moved := [name for name, file in index.items() if file not in places[name]]:
        yield f"{_some(moved)} is in another file than the index says: {places[moved[0]][0]}"
    if index and (more := [name for name in places if name not in index]):
        yield f"the index does not name {_some(more)}, which vLLM reads all the same"


def _sizes(tensors: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The line about a model's size."""
    by_dtype: dict[str, int] = defaultdict(int)
    num_values = 0
    for file in tensors.values():
        for tensor in file.values():
            by_dtype[tensor.dtype] += tensor.num_bytes
            num_values += tensor.num_values
    total = quantity(sum(by_dtype.values()), "GB", "MB")
    # A packed integer holds several weights.
    are_numbers = all(dtype.startswith(("F", "BF")) for dtype in by_dtype)
    parts = sorted(by_dtype.items(), key=lambda each: -each[1])
    kinds = ", ".join(f"{dtype} {quantity(num, 'GB', 'MB')}" for dtype, num in parts)
    files = f"{len(tensors)} file{'s' if len(tensors) > 1 else ''}"
    return (
        f"{total} of weights in {files} ({kinds if len(parts) > 1 else parts[0][0]}), "
        f"{quantity(num_values, 'billion', 'million')} "
        f"{'parameters' if are_numbers else 'numbers, some of them packed'}"
    )


def quantity(number: int, large: str, small: str) -> str:
    """A number in one of two units, thousand million or million."""
    return f"{number / 1e9:.2f} {large}" if number >= 1e9 else f"{number / 1e6:.2f} {small}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0][:200]}{more}"
