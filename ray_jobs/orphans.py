"""Ends what the actor of an engine leaves behind, however it ended.

Ray ends an actor's children when the actor exits, but not when it aborts, as it does where its
raylet dies just before its constructor returns (Ray 2.60: "Check failed: ActorCreationTaskDone").
vLLM's EngineCore then waits for its parent for ever, with the model in memory. And whatever is
killed leaves its shared memory in /dev/shm, where it fills a node that restarts engines (seen by
others: sglang pull request 28089, llm-d issue 352); Python's resource tracker would remove it, but
is killed with the rest. So every actor has a guard beside it: this file, run as a script, whose
standard input closes when the actor is gone. Only the standard library is imported, so that a guard
is small and up at once.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

MARK = "ORCA2_ENGINE"
"""A variable that all processes of an engine inherit; its value is the engine's own."""
GRACE_SECONDS = 2.0
"""For Ray and vLLM to end them first, in their own order."""
LAST_SECONDS = 30.0
"""So long it is looked whether any is left: one may just be starting another."""
LOOK_SECONDS = 1.0
"""Between two looks at the shared memory of an engine that starts."""
SHARED_MEMORY = Path("/dev/shm")
SEGMENTS = ("psm_", "sem.mp-", "vllm_", "nccl-")
"""How names begin there that multiprocessing, vLLM and NCCL give. No other file is ever removed:
people keep models in /dev/shm, and engines map them too."""


def guard() -> IO[bytes]:
    """The line to a new guard of this process, whose mark is in the environment from now on, so
    that children inherit it.

    Closing the line, or this process's end, tells the guard that nothing of the engine should be
    left.
    """
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    os.environ[MARK] = secrets.token_hex(8)
    parent = subprocess.Popen(
        [sys.executable, "-I", __file__, os.environ[MARK]],
        stdin=subprocess.PIPE,
        env=unmarked,
        start_new_session=True,  # no signal that is meant for the actor's group ends it
    )
    parent.wait()
    assert parent.stdin is not None
    return parent.stdin


def tell_it_is_up(line: IO[bytes]) -> None:
    """Tells a guard that the engine has started: it need not look for its shared memory again."""
    with suppress(BrokenPipeError):  # without its guard an engine still works
        os.write(line.fileno(), b"1")


def processes() -> list[int]:
    """Ids of all processes that are to be seen here."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def marked(mark: str) -> list[int]:
    """The processes that carry the mark since they were started."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in processes():
        with suppress(OSError):  # it has ended, or is another user's
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def segments(pids: Iterable[int]) -> set[Path]:
    """Shared memory of SEGMENTS' names that any of these processes has mapped.

    Files are compared by device and inode: who makes a semaphore maps it by another name.
    """
    named: dict[tuple[str, str], Path] = {}
    for path in SHARED_MEMORY.iterdir():
        if path.name.startswith(SEGMENTS):
            with suppress(OSError):
                found = path.stat()
                device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
                named[device, str(found.st_ino)] = path
    mapped = set()
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                _, _, _, device, inode, *_ = line.split(maxsplit=5)
                mapped.add((device, inode))
    return {path for key, path in named.items() if key in mapped}


def watch(mark: str) -> set[Path]:
    """The segments that the engine's processes mapped, once its actor is gone.

    They are sought while the engine starts and once more when it is up: afterwards it makes no
    other, and a look reads something of every process on the node.
    """
    found: set[Path] = set()
    seconds: float | None = LOOK_SECONDS
    while True:
        is_told = bool(select.select([sys.stdin], [], [], seconds)[0])
        found |= segments(marked(mark))
        if is_told:
            if not os.read(sys.stdin.fileno(), 1):
                return found
            seconds = None


def end_orphans(mark: str, mapped: set[Path]) -> None:
    """Returns once no process carries the mark, or LAST_SECONDS are over. What they had mapped of
    shared memory is then removed, unless another process has it mapped.
    """
    time.sleep(GRACE_SECONDS)
    end = time.monotonic() + LAST_SECONDS
    while (left := marked(mark)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
    for path in mapped - segments(processes()):
        with suppress(OSError):  # most are gone, removed by vLLM
            path.unlink()


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # Ray kills an actor's children when it exits: the guard must not be one
    end_orphans(sys.argv[1], watch(sys.argv[1]))
