from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path

import pytest
import ray

from ray_jobs.cluster import Node
from ray_jobs.engines import read_ahead
from ray_jobs.engines.read_ahead import ReadAhead, available_memory, cached_bytes

PAGES = 4096
LIBC = ctypes.CDLL(None, use_errno=True)


def cached_share(path: Path) -> float:
    """The share of a file's pages that lie in memory (mincore(2))."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        held = (ctypes.c_ubyte * (len(mapped) // mmap.PAGESIZE))()
        start = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        assert LIBC.mincore(ctypes.byref(start), ctypes.c_size_t(len(mapped)), held) == 0
        del start
        return sum(page & 1 for page in held) / len(held)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of two files of weights that no memory holds."""
    for name in ("model-1.safetensors", "model-2.safetensors"):
        with open(tmp_path / name, "wb") as file:
            file.write(os.urandom(PAGES * mmap.PAGESIZE))
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_share(tmp_path / "model-1.safetensors") > 0.5:
        pytest.skip("this file system keeps its files in memory")
    return tmp_path


def test_the_weights_lie_in_memory_afterwards(model: Path) -> None:
    assert cached_bytes(model) == 2 * PAGES * mmap.PAGESIZE
    assert all(cached_share(file) == 1.0 for file in model.iterdir())


def test_weights_that_do_not_fit_are_not_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "available_memory", lambda: 2 * PAGES * mmap.PAGESIZE)
    assert cached_bytes(model) == 0
    assert cached_share(model / "model-1.safetensors") < 0.5


def test_the_memory_of_this_machine_is_known() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    assert 0.01 * total < available_memory() <= total


def test_they_are_read_once_on_each_node_and_not_before_the_tail(
    model: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = False
    here = Node(gpus=1, node_id=ray.get_runtime_context().get_node_id())
    ahead = ReadAhead(model=model, nodes=[here], is_tail=lambda: tail)
    ahead.begin_in_tail()
    assert not ahead.has_begun
    tail = True
    ahead.begin_in_tail()
    end = time.monotonic() + 60
    while cached_share(model / "model-2.safetensors") < 1.0 and time.monotonic() < end:
        time.sleep(0.1)
    assert all(cached_share(file) == 1.0 for file in model.iterdir())
    monkeypatch.setattr(read_ahead, "on_node", None)  # a second task would call it
    ahead.begin_in_tail()
