"""One driver per run directory: RUN/driver.lock names the host, process and start time of the one
that holds it.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from orca2_gen.shards import temporary_name, write_bytes


class RunInUse(ValueError):
    """Another driver holds the run directory."""


def lock_run(run_dir: Path) -> Path:
    """Takes the run directory for this process and returns the lock's path; `unlock_run` gives it
    back.

    Raises:
        RunInUse: another living driver holds it, or one on another host may.
    """
    path = run_dir / "driver.lock"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    # A lock is written whole under another name and linked, so that nobody ever reads half of one.
    written = temporary_name(path)
    write_bytes(written, json.dumps(mine).encode())
    try:
        for _ in range(2):
            try:
                os.link(written, path)
                return path
            except FileExistsError:
                holder = _holder(path)
            if holder is not None and (
                holder.get("host") != mine["host"]
                or _started(holder.get("pid")) == holder.get("started")
            ):
                raise RunInUse(
                    f"{run_dir} is in use by process {holder.get('pid')} on {holder.get('host')}; "
                    "wait for it, or "
                    f"remove {path} if that process is gone"
                )
            path.unlink(missing_ok=True)  # its process is dead
    finally:
        written.unlink()
    raise RunInUse(f"{path} was taken by another driver at the same moment; try again")


def unlock_run(run_dir: Path) -> None:
    """Gives the run directory back."""
    (run_dir / "driver.lock").unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _started(pid: Any) -> str | None:
    """When the process began, in clock ticks since boot; None if none lives. A pid alone is
    reused.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # a zombie waits only for its parent
