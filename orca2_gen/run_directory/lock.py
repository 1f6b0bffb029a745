"""One driver per run directory: RUN/driver.lock names its host, process and start time.

The holder touches the lock as long as it lives. In the same process namespace a driver looks up the
holder's process; from another host or container it sees only the touches. They are compared with
each other, never with a clock: hosts' clocks differ. A driver checks before every commit that the
lock is still its own.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.durable_files import temporary_name, write_bytes
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular, read_regular

TOUCH_SECONDS = 5.0
DEAD_AFTER_SECONDS = 45.0
"""Seconds without a touch after which a lock of another host belongs to nobody."""

LOCK_FILE = "driver.lock"
"""Name of the lock in a run directory."""

MOST_LOCK_BYTES = 65_536
"""Bytes of a lock, which has about 300."""


class RunInUse(ValueError):
    """Another driver holds the run directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLock:
    """A lock that this process has taken."""

    path: Path
    descriptor: int
    """Descriptor of the file linked to `path`: a name can be taken over, a file cannot."""

    def check(self) -> None:
        """Checks that the lock is still ours.

        Raises:
            RunInUse: another driver took it after seeing no sign of life of this one.
        """
        if not self.is_ours():
            raise RunInUse(
                f"{self.path} was taken over by another driver while this one stood still; this "
                f"one commits nothing more and leaves the run to it"
            )

    def is_ours(self) -> bool:
        """Whether the lock's name still leads to our file."""
        found = last_touch(self.path)
        return found is not None and found[0] == os.fstat(self.descriptor).st_ino


@contextmanager
def run_lock(
    run_dir: Path,
    *,
    touch_seconds: float = TOUCH_SECONDS,
    dead_after_seconds: float = DEAD_AFTER_SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[RunLock]:
    """The lock; inside, the run directory belongs to this process.

    Raises:
        RunInUse: another living driver holds it.
        DamagedFile: something else than a lock has its name.
    """
    path = run_dir / LOCK_FILE
    mine = {**_namespace(), "pid": os.getpid(), "started": _started(os.getpid())}
    # A lock is written whole under another name and linked, so that nobody ever reads half of one.
    written = temporary_name(path)
    write_bytes(written, json.dumps(mine).encode())
    with open(written, "rb") as file:
        lock = RunLock(path=path, descriptor=file.fileno())
        try:
            _link(lock, written, dead_after_seconds, say)
        finally:
            written.unlink(missing_ok=True)
        released = threading.Event()
        touching = threading.Thread(
            target=_touch, args=(lock, released, touch_seconds), daemon=True
        )
        touching.start()
        try:
            yield lock
        finally:
            released.set()
            touching.join()
            with suppress(OSError):  # a file that the server no longer knows is not ours to remove
                if lock.is_ours():
                    path.unlink()


def _link(
    lock: RunLock, written: Path, dead_after_seconds: float, say: Callable[[str], None]
) -> None:
    for _ in range(2):
        try:
            os.link(written, lock.path)
            return
        except FileExistsError:
            if lock.is_ours():  # NFS may report this for a link that it has made
                return
        except FileNotFoundError:
            break  # another driver, which now has the lock, removed unlisted files
        with suppress(FileNotFoundError):
            try:
                held = read_regular(lock.path, MOST_LOCK_BYTES)
            except UnusableFile as error:
                raise DamagedFile(f"{error}; it is no lock of a driver, so remove it") from None
            _refuse_the_living(lock.path, held, dead_after_seconds, say)
            _take_away(lock.path, held)
    raise RunInUse(f"{lock.path} was taken by another driver at the same moment; try again")


def _refuse_the_living(
    path: Path, held: bytes, dead_after_seconds: float, say: Callable[[str], None]
) -> None:
    try:
        holder: dict[str, Any] = json.loads(held)
        host, pid, started = holder["host"], holder["pid"], holder["started"]
        is_ours = isinstance(pid, int) and isinstance(host, str) and host.isprintable()
    except (ValueError, KeyError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        return  # not written to its end: no driver of ours, which links whole files
    if all(holder.get(name) == value for name, value in _namespace().items()):
        lives = _started(pid) == started
    else:
        say(f"waiting {dead_after_seconds:g} s to see whether process {pid} on {host} still lives")
        lives = _is_touched(path, dead_after_seconds)
    if lives:
        raise RunInUse(
            f"{path.parent} is in use by process {pid} on {host}; wait for it, or end it"
        )


def _namespace() -> dict[str, str]:
    """The facts that two drivers must share for one to see the other's process id."""
    # Containers may share a host's name and nothing else.
    return {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
    }


def _is_touched(path: Path, seconds: float) -> bool:
    """Whether the lock is touched within these seconds; a released lock is not."""
    before = last_touch(path)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(1.0, seconds / 10))
        now = last_touch(path)
        if now != before:
            return now is not None
    return False


def last_touch(path: Path) -> tuple[int, int] | None:
    """The identity and time of the last touch of a lock, to be compared with each other; None if
    there is no lock.
    """
    try:
        with open_regular(path) as file:  # NFS asks the server on opening
            found = os.fstat(file.fileno())
    except (FileNotFoundError, UnusableFile):
        return None
    return found.st_ino, found.st_mtime_ns


def _take_away(path: Path, held: bytes) -> None:
    """Removes a dead driver's lock, unless it has been taken over meanwhile."""
    aside = temporary_name(path)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _read(aside) != held:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _read(path: Path) -> bytes | None:
    try:
        return read_regular(path, MOST_LOCK_BYTES)
    except UnusableFile:
        return None


def _touch(lock: RunLock, released: threading.Event, seconds: float) -> None:
    while not released.wait(seconds):
        # If the file system fails for a moment, the next touch will do; if the lock is lost, the
        # next commit finds out.
        with suppress(OSError):
            os.utime(lock.descriptor)


def _started(pid: Any) -> str | None:
    """The process's start in clock ticks since boot; None if it is not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A pid alone is reused; a zombie waits only for its parent.
    return None if fields[0] in "ZX" else fields[19]
