"""The tensors of a training state -> safetensors files, and back into another number of ranks.

torch.distributed.checkpoint writes each rank's share and reads what each rank needs. Its own format
has a pickled index, and unpickles each setting of an optimizer; safetensors hold tensors and text
alone, so nothing that a stranger plants in a state can run.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.tensor import DTensor

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular
from train.ranks import of_all_ranks, rank

_SUFFIX = ".safetensors"
_ALONE = "torch.distributed is (disabled|unavailable)"
FILE_BYTES = 1 << 30
"""Bytes of a file, unless one tensor has more. While a file is written its tensors are in the
host's memory up to three times: as tensors, and as the bytes that safetensors makes of them."""


def write_tensors(tensors: Mapping[str, torch.Tensor], directory: Path) -> None:
    """Writes tensors to safetensors files, each rank what it holds; every rank calls it.

    Args:
        tensors: the same names on every rank, and no two that share memory.
        directory: is created where it is missing.

    Raises:
        OSError: a rank cannot write; every rank gets the same reason.
    """
    try:
        with _one_process_is_fine():
            dcp.save(dict(tensors), storage_writer=_writer(tensors, directory))
    except CheckpointException as error:
        raise OSError(_shown(_first_of(error))) from None


def write_beside(
    tensors: Mapping[str, torch.Tensor], directory: Path, group: dist.ProcessGroup | None
) -> Future[Any]:
    """The end of writing tensors as `write_tensors` does, in a thread; every rank calls it.

    It returns once each rank has copied its share to the host's memory, so the tensors may change.

    Args:
        tensors: as of `write_tensors`.
        directory: as of `write_tensors`.
        group: a group of all ranks on the CPU that nothing else uses meanwhile; None without
            ranks.
    """
    if group is None:  # the thread warns after this returns, so no context can hold that back
        warnings.filterwarnings("ignore", message=_ALONE)
    found = dcp.async_save(
        dict(tensors),
        storage_writer=_writer(tensors, directory),
        process_group=group,
        no_dist=group is None,
    )
    assert isinstance(found, Future)  # an AsyncSaveResponse is of stagers that we do not take
    return found


def wait_until_written(writing: Future[Any]) -> None:
    """Waits until what `write_beside` began is written; every rank calls it.

    Raises:
        OSError: a rank cannot write; every rank gets the same reason.
    """
    try:
        writing.result()
    except CheckpointException as error:
        raise OSError(_shown(_first_of(error))) from None


def _writer(tensors: Mapping[str, torch.Tensor], directory: Path) -> HuggingFaceStorageWriter:
    return HuggingFaceStorageWriter(
        str(directory), fqn_to_index_mapping=_files_of(tensors), save_distributed=True
    )


def file_sizes(directory: Path) -> dict[str, int]:
    """The bytes of each safetensors file in a directory, by its name."""
    return {path.name: path.stat().st_size for path in sorted(directory.glob(f"*{_SUFFIX}"))}


def written_sizes(directory: Path) -> dict[str, int]:
    """The bytes of each file that `write_tensors` has just written; every rank calls it.

    Each rank looks at its own: another node may not see them yet.
    """
    own = f"shard-{rank() + 1:05d}-"
    mine = {name: size for name, size in file_sizes(directory).items() if name.startswith(own)}
    return {name: size for sizes in of_all_ranks(mine) for name, size in sizes.items()}


def read_tensors(
    tensors: Mapping[str, torch.Tensor],
    directory: Path,
    sizes: Mapping[str, object],
    *,
    may_be_absent: str,
) -> None:
    """Reads what `write_tensors` wrote, in place; every rank calls it.

    Args:
        tensors: get the values; each rank may hold another share of them than when they were
            written.
        directory: holds the files.
        sizes: `file_sizes` after the files were written.
        may_be_absent: a tensor whose name begins so may be in no file, and is set to 0: an
            optimizer remembers nothing of a parameter that never had a gradient.

    Raises:
        DamagedFile: a file is not what was written for this model; every rank gets the same line.
    """
    reader = HuggingFaceStorageReader(str(directory))
    # All of them refuse or none does: one that refuses alone would leave the others waiting.
    present, fault = _present(tensors, reader, directory, sizes, may_be_absent)
    if fault := next(filter(None, of_all_ranks(fault)), ""):
        refuse_state(directory, fault)
    for name in tensors.keys() - set(present):
        tensors[name].zero_()
    try:
        with _one_process_is_fine():
            dcp.load({name: tensors[name] for name in present}, storage_reader=reader)
    except CheckpointException as error:
        refuse_state(directory, f"{directory} cannot be read ({_shown(_first_of(error))})")


def _present(
    tensors: Mapping[str, torch.Tensor],
    reader: HuggingFaceStorageReader,
    directory: Path,
    sizes: Mapping[str, object],
    may_be_absent: str,
) -> tuple[list[str], str]:
    """The names of the tensors that are stored, and what is wrong with the files; "" if nothing."""
    if fault := _fault_of_files(directory, sizes):
        return [], fault
    try:
        index = reader.read_metadata()
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a header that a stranger wrote raises anything
        return [], f"{directory} cannot be read ({_shown(error)})"
    stored = index.state_dict_metadata
    misfit = f"{directory} does not fit this model"
    for name in sorted(stored.keys() - tensors.keys()):
        return [], f"{misfit} (it holds {name[:200]!a} besides)"
    # What is remembered of a parameter is there as a whole or not at all.
    halves = {name.rpartition(".")[0] for name in stored}
    for name in sorted(tensors.keys() - stored.keys()):
        if not name.startswith(may_be_absent) or name.rpartition(".")[0] in halves:
            return [], f"{misfit} (it has no {name})"
    present = [name for name in tensors if name in stored]
    for name in present:
        if fault := _misfit(tensors[name], index, name):
            return [], f"{misfit} ({name} {fault})"
    return present, ""


def refuse_state(directory: Path, fault: str) -> NoReturn:
    """Refuses a state directory.

    Raises:
        DamagedFile: always.
    """
    raise DamagedFile(
        f"{fault}; restore {directory} from a copy, or remove it to start the training again"
    ) from None


def _files_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that each tensor goes to."""
    numbers, number, filled = {}, 1, 0
    for name, tensor in tensors.items():
        share = math.ceil(tensor.numel() / _num_shards(tensor)) * tensor.element_size()
        if filled and filled + share > FILE_BYTES:
            number, filled = number + 1, 0
        numbers[name] = number
        filled += share
    return numbers


def _num_shards(tensor: torch.Tensor) -> int:
    """The number of ranks that hold different parts of a tensor."""
    if not isinstance(tensor, DTensor):
        return 1
    sizes = zip(tensor.placements, tensor.device_mesh.shape, strict=True)
    return math.prod(size for placement, size in sizes if placement.is_shard())


def _fault_of_files(directory: Path, sizes: Mapping[str, object]) -> str:
    """In what a directory's safetensors files are not those that were written; "" if in nothing."""
    # torch reads whatever ends in .safetensors there.
    found = {name for name in os.listdir(directory) if name.endswith(_SUFFIX)}
    for name in sorted(found - sizes.keys()):
        return f"{directory} holds {name[:100]!a}, which no save of it wrote"
    for name in sorted(sizes.keys() - found):
        return f"{directory} lacks {name[:100]!a}"
    for name, size in sizes.items():
        try:
            with open_regular(directory / name) as file:
                seen = os.fstat(file.fileno()).st_size
        except (FileNotFoundError, UnusableFile) as error:
            return str(error)
        if seen != size:
            return f"{directory / name} has {seen} bytes, expected {str(size)[:20]}"
    return ""


def _misfit(tensor: torch.Tensor, index: Metadata, name: str) -> str:
    """In what a stored tensor differs from one in memory, for a person; "" if in nothing."""
    stored = index.state_dict_metadata[name]
    if stored.size != tensor.size():
        return f"has the shape {tuple(stored.size)}, expected {tuple(tensor.size())}"
    if stored.properties.dtype != tensor.dtype:
        return f"is {stored.properties.dtype}, expected {tensor.dtype}"
    # torch leaves what no piece covers as it is in memory, and says nothing.
    return "" if _cover(stored.chunks, stored.size) else "is not whole"


def _cover(pieces: Sequence[ChunkStorageMetadata], size: torch.Size) -> bool:
    """Whether pieces are a tensor's rows one behind the other, as FSDP shards them."""
    next_row = 0
    for piece in sorted(pieces, key=lambda each: tuple(each.offsets)):
        if 0 in piece.sizes:  # the share of a rank beyond the last row
            continue
        if any(piece.offsets[1:]) or piece.sizes[1:] != size[1:]:
            return False
        if size and piece.offsets[0] != next_row:
            return False
        next_row += piece.sizes[0] if size else 1
    return next_row == (size[0] if size else 1) or 0 in size


def _first_of(error: CheckpointException) -> BaseException:
    """The failure of the first rank that has one; every rank gets the failures of all."""
    failure: BaseException = error.failures[min(error.failures)][0]
    return failure


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """Keeps torch from warning that there is no process group; training alone is not a mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_ALONE)
        yield
