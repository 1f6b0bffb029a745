"""The place of this process among those that torchrun started; without torchrun it is alone."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

LAUNCHER_VARIABLE = "ORCA2_LAUNCHER"
"""Variable of the environment with the process id of the ranks' launcher, if it is ours."""

# Rank 0 alone writes the student, and the others wait for it.
_TIMEOUT = timedelta(minutes=60)


@contextmanager
def joined_ranks() -> Iterator[None]:
    """The process group of torchrun's processes, for as long as the context lasts."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    _end_with_launcher()
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    # gloo beside nccl, since checkpoints exchange their plans on the CPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_first_to_say(text: str) -> bool:
    """Whether no other rank has said this yet: what all of them find is told once."""
    if not is_distributed():
        return True
    store = dist.distributed_c10d._get_default_store()
    said = hashlib.sha256(text.encode()).hexdigest()
    return int(store.add(f"orca2/said/{said}", 1)) == 1


def _end_with_launcher() -> None:
    """Lets this process end soon after its launcher.

    A launcher that is killed cannot end its ranks. They would wait for each other, or go on to
    train beside the ranks of the next command.
    """
    launcher = int(os.environ.get(LAUNCHER_VARIABLE, os.getppid()))

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1.0)
        print("Error: the launcher of this rank is gone", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def device() -> torch.device:
    """The device that this rank computes on."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def is_distributed() -> bool:
    """Whether there is a process group."""
    return bool(dist.is_available() and dist.is_initialized())


def rank() -> int:
    """The number of this process; 0 writes and prints."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes that share the rows and the weights."""
    return dist.get_world_size() if is_distributed() else 1


def of_all_ranks(value: T) -> list[T]:
    """The values of all ranks, by rank. Every rank calls it."""
    if not is_distributed():
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def wait_for_ranks() -> None:
    """Waits until every rank calls it."""
    if is_distributed():
        dist.barrier()
