from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.lock import RunInUse, run_lock

ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": "1"}


def holder(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "driver.lock").read_text())
    return found


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path),
        pytest.raises(RunInUse, match=f"in use by process {os.getpid()}"),
        run_lock(tmp_path),
    ):
        pass
    with run_lock(tmp_path):
        assert holder(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


HOLD = (
    "import os; from orca2_gen.run_directory.lock import *; "
    "l = run_lock(Path({!r})); l.__enter__(); os._exit(0)"
)


def test_a_dead_drivers_lock_is_taken_over(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLD.format(str(tmp_path))], check=True, timeout=120)
    assert holder(tmp_path)["pid"] != os.getpid()
    with run_lock(tmp_path):
        assert holder(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_driver_that_nobody_reaped_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD.format(str(tmp_path))])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    try:
        with run_lock(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()
    finally:
        child.wait()


def test_a_reused_process_id_does_not_hold_a_lock(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        mine = holder(tmp_path)
    (tmp_path / "driver.lock").write_text(json.dumps({**mine, "started": "1"}))
    with run_lock(tmp_path):
        assert holder(tmp_path)["started"] != "1"


def test_a_lock_of_another_host_is_not_taken_while_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    path.write_text(json.dumps(ELSEWHERE))
    done = threading.Event()

    def touch() -> None:
        while not done.wait(0.1):
            os.utime(path)

    touching = threading.Thread(target=touch)
    touching.start()
    try:
        with (
            pytest.raises(RunInUse, match="process 1 on elsewhere"),
            run_lock(tmp_path, dead_after_seconds=5.0),
        ):
            pass
    finally:
        done.set()
        touching.join()
    assert holder(tmp_path) == ELSEWHERE


def test_a_dead_hosts_lock_is_taken_over_after_its_time(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text(json.dumps(ELSEWHERE))
    started = time.monotonic()
    with run_lock(tmp_path, dead_after_seconds=0.5):
        assert holder(tmp_path)["pid"] == os.getpid()
    assert time.monotonic() - started >= 0.5


def test_clocks_of_other_hosts_play_no_part(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    path.write_text(json.dumps(ELSEWHERE))
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    with run_lock(tmp_path, dead_after_seconds=0.3):
        assert holder(tmp_path)["pid"] == os.getpid()


def test_a_driver_whose_lock_was_taken_away_commits_no_more_and_leaves_it(tmp_path: Path) -> None:
    with run_lock(tmp_path, touch_seconds=0.05) as lock:
        ledger = read_ledger(tmp_path, writable=True, fence=lock.check)
        ledger.commit([])
        (tmp_path / "driver.lock").unlink()
        (tmp_path / "driver.lock").write_text(json.dumps(ELSEWHERE))
        with pytest.raises(RunInUse, match="taken over by another driver"):
            ledger.commit([])
    assert holder(tmp_path) == ELSEWHERE


def test_the_same_process_id_in_another_container_is_another_process(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        mine = holder(tmp_path)
    (tmp_path / "driver.lock").write_text(json.dumps({**mine, "pid_namespace": "pid:[1]"}))
    with run_lock(tmp_path, dead_after_seconds=0.3):
        assert holder(tmp_path) == mine


def test_a_lock_that_nobody_finished_writing_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text("")
    with run_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.touch() or os.truncate(path, 200 << 30),
    ],
    ids=["FIFO", "directory", "device", "dangling", "loop", "sparse"],
)
def test_what_is_no_file_of_a_lock_is_named_and_left_there(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "driver.lock")
    with pytest.raises(DamagedFile, match=r"driver\.lock .*remove it"), run_lock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]


def test_a_lock_that_is_replaced_by_a_fifo_is_lost(tmp_path: Path) -> None:
    with run_lock(tmp_path) as lock:
        (tmp_path / "driver.lock").unlink()
        os.mkfifo(tmp_path / "driver.lock")
        with pytest.raises(RunInUse, match="taken over"):
            lock.check()


@pytest.mark.parametrize(
    "held",
    [
        b"[" * 60_000,
        b"[1]",
        b'{"host": "h", "started": "1", "pid": "1/../1"}',
        b'{"host": "two\\nlines", "started": "1", "pid": 1}',
        b'{"host": 3, "started": "1", "pid": 1}',
    ],
)
def test_what_no_driver_of_ours_wrote_holds_nothing(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "driver.lock").write_bytes(held)
    with run_lock(tmp_path, dead_after_seconds=30):
        assert holder(tmp_path)["pid"] == os.getpid()
