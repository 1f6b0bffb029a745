from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.engines import logs
from ray_jobs.engines.logs import EngineLog

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from ray_jobs.engines.logs import EngineLog
log = EngineLog(path=Path(sys.argv[1]), start=sys.argv[2])
log.begin()
{rest}
"""
CHILD = """
child = 'raise ValueError("Cannot find the config file for awq")'
subprocess.run([sys.executable, "-c", child])
"""


def run(log: EngineLog, rest: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(rest=rest), str(log.path), log.start],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )


@pytest.fixture
def log(tmp_path: Path) -> EngineLog:
    return EngineLog(path=tmp_path / "engines" / "student-0.log")


def test_what_a_child_printed_is_the_reason_though_all_were_killed(log: EngineLog) -> None:
    done = run(log, CHILD + "os.kill(os.getpid(), 9)")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
    said = log.why("Ray's own words")
    assert said.startswith("ValueError: Cannot find the config file for awq; ")
    assert f"on {platform.node()}, see {log.path}" in said and "`quantization`" in said
    assert "Ray's" not in said


def test_last_words_come_before_the_cause(log: EngineLog) -> None:
    run(log, CHILD + "log.add_last_words('its EngineCore died')\nos._exit(1)")
    assert log.why("").startswith("its EngineCore died: ValueError: Cannot find the config file")


def test_an_engine_that_printed_nothing_dies_of_what_ray_says(log: EngineLog) -> None:
    run(log, "os._exit(1)")
    assert log.why("worker died") == f"worker died; on {platform.node()}"
    assert EngineLog(path=log.path.parent / "absent.log").why("worker died") == "worker died"


def test_what_was_printed_before_an_engine_was_up_or_by_an_earlier_start_is_no_reason(
    log: EngineLog,
) -> None:
    run(log, CHILD + "log.add_is_up()")
    assert log.why("killed") == f"killed; on {platform.node()}"
    again = EngineLog(path=log.path)
    run(again, "print('loading')")
    assert again.why("killed").startswith(f"killed; on {platform.node()}, see ")
    assert "Cannot find" in log.path.read_text(), "a log keeps what earlier starts printed"


def test_a_log_that_has_grown_large_is_kept_beside_a_new_one(
    log: EngineLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.path.parent.mkdir()
    log.path.touch()
    os.truncate(log.path, logs.MOST_BYTES + 1)
    run(log, "print('new')")
    assert log.path.read_text().endswith("new\n")
    assert log.path.with_suffix(".old.log").stat().st_size == logs.MOST_BYTES + 1


def test_a_log_that_cannot_be_written_leaves_the_output_where_it_was(log: EngineLog) -> None:
    log.path.parent.mkdir()
    log.path.symlink_to("/dev/null")
    done = run(log, "print('here')")
    assert done.returncode == 0 and done.stdout == "here\n" and "cannot be written" in done.stderr


def test_an_engine_that_worked_dies_of_its_last_complaint_and_of_what_ray_is_sure_of(
    log: EngineLog,
) -> None:
    harmless = "raise FileNotFoundError('harmless, ten hours ago')"
    run(
        log,
        f"log.add_is_up()\nsubprocess.run([sys.executable, '-c', {harmless!r}])\n"
        + CHILD.replace("awq", "gptq"),
    )
    assert log.why("killed").startswith("ValueError: Cannot find the config file for gptq")
    assert log.why("the node died", is_sure=True).startswith("the node died; on ")
