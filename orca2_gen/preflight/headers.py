"""A safetensors file -> the tensors in its header; no weight is read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.run_directory.regular_files import open_regular

MOST_HEADER_BYTES = 100_000_000
"""Bytes of a header; the safetensors library refuses larger ones too."""
LFS_POINTER = b"version https://git-lfs"
"""Beginning of the text file that Git leaves in place of a large one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One tensor as a header describes it."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no whole safetensors file; one line says why, and the remedy.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(max(8, len(LFS_POINTER)))
        check_no_pointer(path, start)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > size - 8:
            raise ValueError(
                f"{path} is cut short, or no safetensors file: it has {size} bytes, and its header "
                "would not end there; copy it again"
            )
        if length > MOST_HEADER_BYTES:
            raise ValueError(
                f"{path} has a header of {length} bytes; expected at most {MOST_HEADER_BYTES}: "
                "it is no file of weights; copy it again"
            )
        file.seek(8)
        body = file.read(length)
    header = _parsed(path, body)
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    _check_covered(path, tensors, size - 8 - length)
    return {
        name: Tensor(
            dtype=value["dtype"],
            shape=tuple(value["shape"]),
            num_bytes=value["data_offsets"][1] - value["data_offsets"][0],
        )
        for name, value in tensors.items()
    }


def check_no_pointer(path: Path, start: bytes) -> None:
    """Checks the first bytes of a file of any kind.

    Raises:
        ValueError: Git left it in place of the file itself.
    """
    if start.startswith(LFS_POINTER):
        raise ValueError(
            f"{path} is a Git LFS pointer and not the file itself; run `git lfs pull` where it "
            "comes from, and copy it again"
        )


def _parsed(path: Path, body: bytes) -> dict[str, Any]:
    try:
        header = json.loads(body)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(
            f"{path} is damaged: its header is no JSON object; copy it again, or convert the "
            "weights with save_pretrained"
        )
    return header


def _check_covered(path: Path, tensors: Mapping[str, Any], num_bytes: int) -> None:
    """Checks what the header promises against the bytes behind it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):  # maps the file, checks the header, and reads nothing
            return
    except (SafetensorError, OSError) as error:
        reason = " ".join((str(error).partition("header: ")[2] or str(error)).split())
    ends = [_end(value) for value in tensors.values()]
    if all(type(end) is int for end in ends) and max(ends, default=0) != num_bytes:
        reason = f"its header promises {max(ends, default=0)} bytes of weights, it has {num_bytes}"
    raise ValueError(f"{path} is cut short or damaged: {reason[:200]}; copy it again")


def _end(value: Any) -> Any:
    offsets = value.get("data_offsets") if isinstance(value, dict) else None
    return offsets[-1] if isinstance(offsets, list) and offsets else None
