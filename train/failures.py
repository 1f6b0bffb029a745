"""A rank that fails ends all of them, on every node, with its own line and exit code.

Ranks that wait for it in a collective would hear of it from nobody: NCCL waits for its timeout, and
torchrun tells the ranks of its own node alone, to which a rank inside a collective does not listen.
So each rank has a thread that looks into the store by which they found each other.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

CHECK_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""Seconds that the other ranks have to say the same themselves."""
SILENT_SECONDS = 300.0
"""Seconds without a sign of life of a rank after which a training has failed: a process that was
killed leaves no notice."""
GONE_SECONDS = 30.0
"""The same of the store, which ends with the first node's launcher."""
STILL_SECONDS = 10.0
"""Seconds between two checks after which this process itself must have stood still."""
_FAILED = 1
"""`exit_codes.FAILED`, whose module needs pyarrow: a host that measures training may lack it."""
_NOTICE = "orca2/failed"


def leave(code: int) -> None:
    """Ends this process, and soon every other rank; returns where there is only one.

    The process group is not destroyed: that waits for ranks which wait for this one.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    _end(_store(), code)


def said_of_lost_rank(error: BaseException, rank: int) -> bool:
    """Whether an error is that of a collective with a rank that is gone, which is then said.

    gloo raises a RuntimeError that names its own source, NCCL and the store torch's DistError. The
    store is not asked whether another rank has said so: it may be gone, too.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, dist.DistError) and "gloo/transport" not in text:
        return False
    reason = text.partition("] ")[2].partition(". ")[0] if text.startswith("[") else text
    _say(f"another rank is gone or cannot be reached ({reason[:200]})", rank)
    return True


@dataclass(slots=True)
class _Signs:
    """When this rank last had an answer of the store, and a new sign of its neighbour."""

    answered_at: float = field(default_factory=time.monotonic)
    heard_at: float = field(default_factory=time.monotonic)
    is_leaving: bool = False
    """Whether a rank has left a notice, so that silence means nothing."""


@contextmanager
def watched_ranks() -> Iterator[None]:
    """Inside, this process ends soon after a rank that leaves, or that is heard of no more."""
    ended, signs = threading.Event(), _Signs()
    # A connection of its own: torch holds the other while it waits for a rank.
    store, rank = _store().clone(), dist.get_rank()
    neighbour = (rank + 1) % dist.get_world_size()
    threads = [
        threading.Thread(target=watch, args=(store, rank, neighbour, signs, ended), daemon=True)
        for watch in (_listen, _judge)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:  # a thread in torch's code while the interpreter ends would abort the process
        ended.set()
        for thread in threads:
            thread.join(GRACE_SECONDS)


def _listen(store: Any, rank: int, neighbour: int, signs: _Signs, ended: threading.Event) -> None:
    """Gives signs of this rank and notes those of others; it waits as long as the store does."""
    beats, heard = 0, 0
    while not ended.wait(CHECK_SECONDS):
        with suppress(Exception):  # whatever ails the store, it may come back
            if store.check([_NOTICE]):
                signs.is_leaving = True
                code = int(store.get(_NOTICE))
                if not ended.wait(GRACE_SECONDS):
                    _end(store, code)
            beats += 1
            store.set(_beats_of(rank), str(beats))
            if store.check([_beats_of(neighbour)]):
                found = int(store.get(_beats_of(neighbour)))
                if found != heard:
                    heard, signs.heard_at = found, time.monotonic()
            signs.answered_at = time.monotonic()


def _judge(store: Any, rank: int, neighbour: int, signs: _Signs, ended: threading.Event) -> None:
    """Ends this process once it has had no sign for too long.

    It asks the store nothing: nobody answers from a node that was cut off, and what waits for it
    waits for ever.
    """
    looked_at = time.monotonic()
    while not ended.wait(CHECK_SECONDS) and not signs.is_leaving:
        now = time.monotonic()
        if now - looked_at > STILL_SECONDS:  # this process was suspended
            signs.answered_at = signs.heard_at = now
        looked_at = now
        if now - signs.answered_at > GONE_SECONDS:
            _say(f"the launcher of the first node has not answered for {GONE_SECONDS:.0f} s", rank)
            _end(store, _FAILED)
        if now - signs.heard_at > SILENT_SECONDS:
            _say(f"rank {neighbour} has not been heard of for {SILENT_SECONDS:.0f} s", rank)
            _end(store, _FAILED)


def _say(what: str, rank: int) -> None:
    line = f"Error: {what}, says rank {rank} on {socket.gethostname()}; look at its node, then run "
    print(line + "the same command again", file=sys.stderr, flush=True)


def _beats_of(rank: int) -> str:
    return f"orca2/beats/{rank}"


def _end(store: Any, code: int) -> None:
    noticing = threading.Thread(target=_leave_notice, args=(store, code), daemon=True)
    noticing.start()
    noticing.join(GRACE_SECONDS)  # a store that does not answer holds up no end
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _leave_notice(store: Any, code: int) -> None:
    with suppress(Exception):
        store.set(_NOTICE, str(code))
        # The store may end with this process's launcher: the others have to read it before.
        time.sleep(2 * CHECK_SECONDS)


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
