"""This machine -> findings: it starts nothing, takes no GPU memory, imports neither torch nor vLLM.

Every node of a cluster is asked the same.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from orca2_gen.doctor.findings import Finding, bad, good, odd, said
from orca2_gen.doctor.gpus import gpu_findings, gpus_by_smi
from orca2_gen.doctor.packages import engine_findings, package_findings
from orca2_gen.offline import OFFLINE_ENVIRONMENT

LONGEST_TMPDIR = 39
"""Bytes: Ray's sockets lie up to 68 below it (ray/session_DATE_TIME_PID/sockets/plasma_store, Ray
2.60: node.py), and a socket's path has 107 at most (unix(7))."""
LEAST_SHM = 1 << 30
"""Bytes of /dev/shm: Ray's objects and the ranks of an engine share memory there. A container has
64 MB unless it is told otherwise."""
LEAST_MEMORY = 8 << 30
LEAST_TEMPORARY = 2 << 30
LEAST_FILES = 4096
"""Open files that a process may have: each actor and engine has hundreds of sockets."""


def machine_findings(expected_gpus: int | None = None) -> list[Finding]:
    """All findings of this machine; what cannot be looked at is a finding too.

    Args:
        expected_gpus: the GPUs that Ray counts on it; None if nobody knows.
    """
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": package_findings,
        "vLLM": engine_findings,
        "GPUs": lambda: gpu_findings(expected_gpus),
        "memory": _memory,
        "/dev/shm": _shared_memory,
        "HOME": _home,
        "temporary files": _temporary,
        "limits": _limits,
    }
    found: list[Finding] = []
    for about, look in looks.items():
        try:
            found += look()
        except Exception as error:  # a broken machine is what this is for
            found.append(odd(about, f"cannot be looked at: {said(error)}", "look at it by hand"))
    return found


def _memory() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    available = _available_memory()
    found = f"{_gigabytes(available)} of memory available, {cores} cores"
    if available < LEAST_MEMORY:
        remedy = "end other processes, or take a machine with more: a model is read through memory"
        yield odd("memory", found, remedy)
    else:
        yield good("memory", found)


def _shared_memory() -> Iterator[Finding]:
    size = shutil.disk_usage("/dev/shm").total
    if size >= LEAST_SHM:
        yield good("/dev/shm", f"{_gigabytes(size)}")
        return
    remedy = "docker run --shm-size 8g, or an emptyDir with medium: Memory (rayjob.yaml has one)"
    # Ray does without, slowly; the ranks of an engine on several GPUs do not.
    level = bad if len(gpus_by_smi()[0]) > 1 else odd
    yield level("/dev/shm", f"{_gigabytes(size)}", remedy)


def _home() -> Iterator[Finding]:
    home = Path.home()
    if os.access(home, os.W_OK):
        yield good("HOME", f"{home} can be written")
    else:
        remedy = "set HOME to a directory that can: vLLM, Triton and Ray keep files there"
        yield bad("HOME", f"{home} cannot be written", remedy)


def _temporary() -> Iterator[Finding]:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(folder.encode()) > LONGEST_TMPDIR:
        remedy = "set RAY_TMPDIR to a short directory, e.g. /tmp"
        yield bad("temporary files", f"{folder} is too long for Ray's sockets", remedy)
        return
    free = shutil.disk_usage(folder).free
    if free < LEAST_TEMPORARY:
        yield odd("temporary files", f"{folder} has {_gigabytes(free)} free", "make room there")
    else:
        yield good("temporary files", f"{folder} has {_gigabytes(free)} free")


def _limits() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < LEAST_FILES:
        remedy = f"ulimit -n {LEAST_FILES} or more, where the process is started"
        yield odd("open files", f"a process may have {shown}", remedy)
    else:
        yield good("open files", f"a process may have {shown}, {soft} of them at once by default")
    online = [name for name, value in OFFLINE_ENVIRONMENT.items() if os.environ.get(name) != value]
    if online:
        remedy = "leave them to orca2, which sets them, or take them out of the environment"
        yield odd("offline variables", f"{', '.join(online)} are not what orca2 sets", remedy)
    else:
        yield good("offline variables", f"all {len(OFFLINE_ENVIRONMENT)} are set")


def _available_memory() -> int:
    """Bytes that this process and its children may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    line = next(line for line in lines if line.startswith("MemAvailable:"))
    return min([int(line.split()[1]) * 1024, *_left_in_groups()])


def _left_in_groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """The bytes left of each limit that a container, pod or Slurm step has, up to the machine."""
    for line in own.read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, limit, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base = root / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        place = base / path.lstrip("/")
        for folder in (place, *place.parents):
            with suppress(OSError, ValueError):  # "max" is no number
                most, taken = (int((folder / name).read_text()) for name in (limit, used))
                yield max(0, most - taken + _given_up_when_needed(folder))
            if folder == base:
                break


def _gigabytes(number: int) -> str:
    return f"{number / (1 << 30):.1f} GB"


def _given_up_when_needed(group: Path) -> int:
    """The bytes of files that were read, which count as used by a group."""
    with suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text().splitlines():
            name, number = line.split()
            if name in ("inactive_file", "total_inactive_file"):
                return int(number)
    return 0
