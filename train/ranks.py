"""The place of this process among those that torchrun started; without torchrun it is alone."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist

from train.failures import watched_ranks

T = TypeVar("T")

LAUNCHER_VARIABLE = "ORCA2_LAUNCHER"
"""Variable of the environment with the process id of the ranks' launcher, if it is ours."""

SAVING_SECONDS = float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600"))
"""Seconds that ranks have to save their state after a signal; torchrun's own are 30."""

# Rank 0 alone writes the student, and the others wait for it.
_TIMEOUT = timedelta(minutes=60)


@contextmanager
def joined_ranks(stop: threading.Event) -> Iterator[None]:
    """The process group of torchrun's processes, for as long as the context lasts.

    Once their launcher is gone, `stop` is set, and they have some minutes to save their state.
    """
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if not is_alone or LAUNCHER_VARIABLE in os.environ:
        _end_with_launcher(stop)
    if is_alone:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    # gloo beside nccl, since checkpoints exchange their plans on the CPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    with watched_ranks():
        # NCCL connects in its first collective, which should not wait for a model to be read.
        dist.all_reduce(torch.zeros(1, device=device()))
        yield
    dist.destroy_process_group()  # not after an error: it would wait for the other ranks


def is_first_to_say(text: str) -> bool:
    """Whether no other rank has said this yet: what all of them find is told once."""
    if not is_distributed():
        return True
    store = dist.distributed_c10d._get_default_store()
    said = hashlib.sha256(text.encode()).hexdigest()
    return int(store.add(f"orca2/said/{said}", 1)) == 1


def end_with(process: int, end: Callable[[], None]) -> None:
    """Calls `end` from a thread once this parent of the process is gone.

    A launcher that is killed cannot end its ranks. They would wait for each other, or go on to
    train beside the ranks of the next command.
    """

    def watch() -> None:
        while os.getppid() == process:
            time.sleep(1.0)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _end_with_launcher(stop: threading.Event) -> None:
    def end() -> None:
        print("Error: the launcher of this rank is gone", file=sys.stderr, flush=True)
        stop.set()
        time.sleep(SAVING_SECONDS)
        os._exit(1)

    end_with(int(os.environ.get(LAUNCHER_VARIABLE, os.getppid())), end)


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


@contextmanager
def collectives_within(timeout: timedelta = _TIMEOUT) -> Iterator[None]:
    """Inside, collectives of every group that there is wait so long at most; then as before."""
    groups = list(dist.distributed_c10d._world.pg_map) if is_distributed() else []
    cpu = torch.device("cpu")  # every group has a backend there, and all of a group wait alike
    before = [group._get_backend(cpu).options._timeout for group in groups]
    try:
        for group in groups:
            dist.distributed_c10d._set_pg_timeout(timeout, group)
        yield
    finally:
        for group, earlier in zip(groups, before, strict=True):
            dist.distributed_c10d._set_pg_timeout(earlier, group)


def another_group() -> dist.ProcessGroup | None:
    """A further group of all ranks, on the CPU; None without ranks. Every rank calls it."""
    return dist.new_group(backend="gloo", timeout=_TIMEOUT) if is_distributed() else None


def ranks_of_a_copy(sharding: Literal["full", "hybrid"]) -> int:
    """The number of ranks that share one copy of the weights. Every rank calls it.

    Raises:
        ValueError: the nodes have different numbers of ranks, and each should hold a copy.
    """
    if sharding == "full" or not is_distributed():
        return world_size()
    local = of_all_ranks(int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))
    if len(set(local)) > 1:
        numbers = " and ".join(map(str, sorted(set(local))))
        raise ValueError(
            f'training.sharding is "hybrid" and nodes have {numbers} processes; start as many on '
            'each, or set "full"'
        )
    return local[0]


def of_all_ranks(value: T) -> list[T]:
    """The values of all ranks, by rank. Every rank calls it."""
    if not is_distributed():
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_first_rank(action: Callable[[], T]) -> T:
    """What rank 0 gets of an action, on every rank; all raise what it raises. Every rank calls it.

    File systems may show one node what they do not show another yet, so one rank decides for all.
    """
    if not is_distributed():
        return action()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = action()
        except (ValueError, OSError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return cast(T, outcome[0])
