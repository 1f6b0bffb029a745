"""A training state's files -> its tensors, read by torch.distributed.checkpoint without a program.

DCP unpickles a state's index, and each entry that the index calls an object: whatever a stranger
plants there runs before the first step. Here the index may name DCP's own classes and nothing else,
and entries are read as plain values (torch's `weights_only`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular, read_regular

INDEX_FILE = ".metadata"
MOST_INDEX_BYTES = 256 << 20
"""The index of a 13-billion model on 32 ranks has about 7 MB."""

_CLASSES = {
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch": ("Size", "bfloat16", "bool", "float16", "float32", "float64", "int32", "int64"),
    "torch.serialization": ("_get_layout",),
    # The directory that a state was written to; Python 3.13 moved the class.
    "pathlib": ("PosixPath",),
    "pathlib._local": ("PosixPath",),
}


def read_state(tensors: dict[str, Any], directory: Path) -> None:
    """Reads a state directory into a state dict's tensors and settings.

    Raises:
        DamagedFile: a file is not what `save_state` writes for this model; every rank gets the same
            line.
    """
    for path in sorted(directory.iterdir()):
        try:
            open_regular(path).close()
        except UnusableFile as error:
            _refuse(directory, str(error))
    index = read_index(directory)  # DCP would log a traceback where this fails, and go on
    try:
        dcp.load(tensors, storage_reader=_Reader(directory, index), planner=_PlainPlanner())
    except CheckpointException as error:
        # Every rank gets the failures of all.
        first, _ = error.failures[min(error.failures)]
        if isinstance(first, DamagedFile):
            raise DamagedFile(str(first)) from None
        _refuse(directory, f"{directory} does not fit this model ({_shown(first)})")


class _Reader(dcp.FileSystemReader):  # type: ignore[misc]
    """DCP's reader of a directory, with an index that is read before."""

    def __init__(self, directory: Path, index: Metadata) -> None:
        super().__init__(directory)
        self.index = index

    def read_metadata(self) -> Metadata:
        """The index; without keywords, so that DCP looks for no index of a single rank."""
        return self.index


def read_index(directory: Path) -> Metadata:
    """The index of a state directory.

    Raises:
        DamagedFile: it is not one that `save_state` writes.
    """
    path = directory / INDEX_FILE
    try:
        body = read_regular(path, MOST_INDEX_BYTES)
    except (FileNotFoundError, UnusableFile) as error:
        _refuse(directory, str(error))
    try:
        for opcode, argument, _ in pickletools.genops(body):
            # The unpickler makes room for as many objects as a number says: 16 GB for one byte.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(argument)) > len(body):
                raise pickle.UnpicklingError("it numbers more objects than it holds")
        found = _IndexUnpickler(io.BytesIO(body)).load()
        _check_places(found)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a broken pickle raises anything
        _refuse(directory, f"{path} is no index of ours ({_shown(error)})")
    return found


class _IndexUnpickler(pickle.Unpickler):
    """An unpickler that imports DCP's own classes and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, by its exact name: a dotted one would lead on to its attributes."""
        if name not in _CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> NoReturn:
        """Nothing: an index refers to nothing outside itself."""
        raise pickle.UnpicklingError("it refers to something outside itself")


def _check_places(found: Any) -> None:
    """Checks that an index places its entries in files of its own directory."""
    if type(found) is not Metadata or not isinstance(found.storage_data, dict):
        raise TypeError("it holds something other than an index")
    for place in found.storage_data.values():
        name = place.relative_path
        if type(name) is not str or name in ("", ".", "..") or set(name) & set("/\0"):
            raise ValueError(f"it names the file {str(name)[:80]!a}")
        if place.transform_descriptors or min(place.offset, place.length) < 0:
            raise ValueError("it places an entry where no state of ours has one")


class _PlainPlanner(DefaultLoadPlanner):  # type: ignore[misc]
    """DCP's planner, for entries that are plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Sets an entry that is no tensor: a setting of an optimizer."""
        name = read_item.dest_index.fqn
        found = torch.load(value, weights_only=True)
        if type(found) is not type(self.state_dict[name]):
            raise TypeError(f"{name} is a {type(found).__name__}")
        container: Any = self.original_state_dict
        *parents, last = self.mappings[name]
        for part in parents:
            container = container[part]
        container[last] = found


def _refuse(directory: Path, fault: str) -> NoReturn:
    raise DamagedFile(
        f"{fault}; restore {directory} from a copy, or remove it to start the training again"
    ) from None


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
