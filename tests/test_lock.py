from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.lock import lock_run, unlock_run


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    lock_run(tmp_path)
    with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        lock_run(tmp_path)
    unlock_run(tmp_path)
    unlock_run(lock_run(tmp_path).parent)


def test_a_dead_drivers_lock_is_taken_over(tmp_path: Path) -> None:
    code = f"from orca2_gen.lock import *; lock_run(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert json.loads((tmp_path / "driver.lock").read_text())["pid"] != os.getpid()
    lock_run(tmp_path)
    assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()


def test_a_killed_driver_that_nobody_reaped_is_dead(tmp_path: Path) -> None:
    code = f"from orca2_gen.lock import *; lock_run(Path({str(tmp_path)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    try:
        lock_run(tmp_path)
    finally:
        child.wait()
    assert json.loads((tmp_path / "driver.lock").read_text())["pid"] == os.getpid()


def test_a_reused_process_id_does_not_hold_a_lock(tmp_path: Path) -> None:
    held = {"host": socket.gethostname(), "pid": os.getpid(), "started": "1"}
    (tmp_path / "driver.lock").write_text(json.dumps(held))
    lock_run(tmp_path)
    assert json.loads((tmp_path / "driver.lock").read_text())["started"] != "1"


def test_a_lock_of_another_host_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text(
        json.dumps({"host": "elsewhere", "pid": 1, "started": "1"})
    )
    with pytest.raises(ValueError, match="on elsewhere"):
        lock_run(tmp_path)


def test_a_lock_that_nobody_finished_writing_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text("")
    lock_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]
