"""A file of weights -> the same with further rows in some of its tensors, streamed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from orca2_gen.preflight.headers import read_header
from orca2_gen.run_directory.regular_files import open_regular

_BLOCK_BYTES = 16 << 20
_ALIGNMENT = 8

Rows = Mapping[int, bytes]
"""Row -> its bytes; rows beyond the last one are appended, without a gap."""


def write_weights(source: Path, target: Path, changed: Mapping[str, Rows]) -> None:
    """Writes a safetensors file with these rows, every other byte of every tensor as it was.

    Args:
        source: a whole safetensors file.
        target: the file to write.
        changed: tensor -> its new rows.
    """
    tensors = read_header(source)
    with open_regular(source) as old:
        length = int.from_bytes(old.read(8), "little")
        header: dict[str, Any] = json.loads(old.read(length))
        start = 8 + length
        metadata = header.pop("__metadata__", None)
        places = {name: start + entry["data_offsets"][0] for name, entry in header.items()}
        # Wide numbers first, as the library writes them: each tensor begins at a multiple of them.
        order = sorted(header, key=lambda name: (-_width(tensors[name]), places[name]))
        sizes = {name: tensors[name].num_bytes for name in order}
        described: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
        end = 0
        for name in order:
            shape = list(tensors[name].shape)
            if name in changed:
                row_bytes = sizes[name] // shape[0]
                shape[0] = max(shape[0], *(row + 1 for row in changed[name]))
                sizes[name] = row_bytes * shape[0]
            begin, end = end, end + sizes[name]
            described[name] = {**header[name], "shape": shape, "data_offsets": [begin, end]}
        body = json.dumps(described, separators=(",", ":")).encode()
        body += b" " * (-len(body) % _ALIGNMENT)
        with open(target, "xb") as new:
            new.write(len(body).to_bytes(8, "little") + body)
            for name in order:
                begin = new.tell()
                _copy(old, places[name], tensors[name].num_bytes, new)
                _put_rows(new, begin, begin + sizes[name], changed.get(name, {}))
            new.flush()
            os.fsync(new.fileno())


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's bytes durably, whatever link leads to it."""
    with open_regular(source) as old, open(target, "xb") as new:
        _copy(old, 0, os.fstat(old.fileno()).st_size, new)
        new.flush()
        os.fsync(new.fileno())


def _width(tensor: Any) -> int:
    return int(tensor.num_bytes // tensor.num_values) if tensor.num_values else 0


def _copy(old: BinaryIO, begin: int, num_bytes: int, new: BinaryIO) -> None:
    old.seek(begin)
    while num_bytes:
        block = old.read(min(num_bytes, _BLOCK_BYTES))
        if not block:
            raise OSError(f"{old.name} became shorter while it was copied; run the command again")
        num_bytes -= len(block)
        new.write(block)


def _put_rows(new: BinaryIO, begin: int, end: int, rows: Rows) -> None:
    for row, body in rows.items():
        new.seek(begin + row * len(body))
        new.write(body)
    new.seek(end)
