"""The guard that ends all that the actor of an engine leaves behind on its node.

Ray ends an actor's children when the actor exits, but not when it aborts, as it does if its raylet
dies just before its constructor returns (Ray 2.60: "Check failed: ActorCreationTaskDone"). vLLM's
EngineCore then waits forever for its parent, with the model in memory. And a killed process leaves
its shared memory in /dev/shm, where it fills a node that restarts engines (seen by others: sglang
pull request 28089, llm-d issue 352); Python's resource tracker would remove it, but is killed with
the rest. So every actor has a guard beside it: this file, run as a script, whose standard input
closes when the actor is gone. It imports only the standard library, so that a guard is small and
starts at once.

It cannot reach processes of an engine that Ray starts itself (`executor` "ray", on several nodes),
a container that ends as a whole, and clusters that turn on Ray's subreaper, which ends the guard
too. It sees whether a file is in use only by the processes that it can see: containers that share
the host's /dev/shm should share its process ids too.
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
"""Variable that all processes of an engine inherit; its value belongs to the engine alone."""
GRACE_SECONDS = 2.0
"""Seconds for Ray and vLLM to end the processes first, in their own order."""
LAST_SECONDS = 30.0
"""Seconds during which it looks for leftovers: a process may just be starting another."""
LOOK_SECONDS = 0.1
"""Seconds between two looks for new shared memory while an engine starts."""
SHARED_MEMORY = Path("/dev/shm")
SEGMENTS = ("psm_", "sem.mp-", "vllm_", "nccl-")
"""Prefixes of the names that multiprocessing, vLLM and NCCL give there. No other file is ever
removed: people keep models in /dev/shm, and engines map them too."""


def guard() -> IO[bytes]:
    """The line to a new guard of this process, whose environment holds a mark from now on.

    Closing the line, or the end of this process, tells the guard that nothing of the engine should
    be left.
    """
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    # Children inherit it.
    os.environ[MARK] = secrets.token_hex(8)
    parent = subprocess.Popen(
        [sys.executable, "-I", __file__, str(os.getpid()), os.environ[MARK]],
        stdin=subprocess.PIPE,
        env=unmarked,
        start_new_session=True,  # no signal meant for the actor's group ends it
    )
    if parent.wait():
        print("warning: this engine has no guard: whatever it leaves behind stays", file=sys.stderr)
    assert parent.stdin is not None
    return parent.stdin


def tell_it_is_up(line: IO[bytes]) -> None:
    """Tells a guard that the engine is up: it need not look for its shared memory again."""
    with suppress(BrokenPipeError):  # an engine works without its guard too
        os.write(line.fileno(), b"1")


def processes() -> list[int]:
    """The ids of all processes that are visible here."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def marked(mark: str) -> list[int]:
    """The ids of the processes that were started with the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in processes():
        with suppress(OSError):  # it has ended, or is another user's
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def segments() -> set[Path]:
    """All files of shared memory whose names begin with one of SEGMENTS."""
    return {path for path in SHARED_MEMORY.glob("*") if path.name.startswith(SEGMENTS)}


def is_own(path: Path) -> bool:
    """Whether the file still exists and belongs to this user."""
    with suppress(OSError):
        return path.stat().st_uid == os.getuid()
    return False


def mapped(paths: Iterable[Path], pids: Iterable[int]) -> set[Path]:
    """The subset of the files that any of these processes has mapped."""
    # They are compared by device and inode: the maker of a semaphore maps it by another name.
    named: dict[tuple[bytes, bytes], Path] = {}
    for path in paths:
        with suppress(OSError):  # it has just been removed
            found = path.stat()
            device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
            named[device.encode(), str(found.st_ino).encode()] = path
    in_use = set()
    for pid in pids if named else ():
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_bytes().split(b"\n")[:-1]:
                _, _, _, device_of_line, inode, *_ = line.split(maxsplit=5)
                in_use.add((device_of_line, inode))
    return {path for key, path in named.items() if key in in_use}


def watch(actor: int, mark: str) -> tuple[set[Path], set[Path]]:
    """The files that the actor and its engine had mapped, and all that need no other look.

    Both come back once the actor is gone. The guard looks while the engine starts, whenever a file
    appears, and once more when the engine is up: afterwards an engine makes no other file, and a
    look reads something of every process on the node.
    """
    found: set[Path] = set()
    others = segments()
    last_two: list[set[Path]] = [set(), set()]
    seconds: float | None = LOOK_SECONDS
    while True:
        is_told = bool(select.select([sys.stdin], [], [], seconds)[0])
        now = segments()
        if is_told or last_two != [now, now]:  # two looks at a new file, which is made, then mapped
            # The actor carries no mark itself: it was started before there was one.
            found |= mapped(now, [actor, *marked(mark)])
        if is_told:
            if not os.read(sys.stdin.fileno(), 1):
                return found, now if seconds is None else others | last_two[0]
            seconds = None
        last_two = [last_two[1], now]


def end_orphans(mark: str, left: set[Path], seen: set[Path]) -> None:
    """Ends all processes with the mark and removes their shared memory, within LAST_SECONDS.

    Args:
        mark: mark of the engine.
        left: files that its processes had mapped; those that another process has mapped stay.
        seen: files that need no other look.
    """
    time.sleep(GRACE_SECONDS)
    end = time.monotonic() + LAST_SECONDS
    while (pids := marked(mark)) and time.monotonic() < end:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    # A process may make a file just before it is killed, or while it outlives the actor: nobody can
    # tell whose it was. So a file of this user that is not among `seen`, and that no process has
    # mapped once all are gone, is removed too.
    unseen = {path for path in segments() - seen if is_own(path)}
    left |= unseen - mapped(unseen, processes())
    while left and time.monotonic() < end:
        for path in left - mapped(left, processes()):
            with suppress(OSError):  # most are gone, removed by vLLM
                path.unlink()
            left.discard(path)
        time.sleep(0.5)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # Ray kills an actor's children when it exits: the guard must not be one
    end_orphans(sys.argv[2], *watch(int(sys.argv[1]), sys.argv[2]))
