"""Machines whose clocks are an hour apart: rows are equal, and a lock is its living holder's."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from orca2_gen.exit_codes import FAILED
from tests.conftest import FinishedRun
from tests.faults.faulty import hosts_asked
from tests.faults.oracle import assert_whole, committed, snapshot
from tests.machines.clusters import ENGINES, cluster_of, drive_slowly, plant_slow_problems
from tests.machines.namespaces import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HOUR = 3600
WAITS = "^waiting 45 s to see whether process \\d+ on {} still lives$"


@pytest.fixture
def an_hour_ahead(tmp_path: Path) -> dict[str, str]:
    """Variables with which programs read a clock of the day that is an hour ahead.

    The times of files come from the file system, as they come from a file server.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    options = ("-shared", "-fPIC", "-O1", "-ldl", "-pthread")
    done = subprocess.run([compiler, str(source), "-o", str(library), *options], check=False)
    assert done.returncode == 0
    return {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(HOUR)}


@pytest.mark.parametrize("is_ahead", [True, False], ids=["ahead", "behind"])
def test_a_lock_is_kept_by_the_living_and_taken_from_the_lost_where_clocks_are_an_hour_apart(
    alone: FinishedRun,
    machines: Site,
    tmp_path: Path,
    an_hour_ahead: dict[str, str],
    is_ahead: bool,
) -> None:
    head = machines.add()
    ours = machines.add(**(an_hour_ahead if is_ahead else {}))
    theirs = machines.add(**({} if is_ahead else an_hour_ahead))
    apart = int(ours.run("date", "+%s")) - int(theirs.run("date", "+%s"))
    assert abs(apart - (HOUR if is_ahead else -HOUR)) < 60
    cluster_of(head, ours, theirs, options=[ENGINES])
    run_dir = tmp_path / "run"
    plant_slow_problems(run_dir, 8.0)
    replicas = ("student.replicas=2", "teacher.replicas=2")
    driver = drive_slowly(ours, head, alone.config_file, run_dir, *replicas)
    driver.wait_until(lambda: run_dir.exists() and committed(run_dir)["scores"] > 0)
    code, refused = drive_slowly(theirs, head, alone.config_file, run_dir).ended()
    assert code == FAILED, refused
    assert re.search(WAITS.format(ours.name), refused, re.MULTILINE), refused
    assert "is in use by process" in refused and f"on {ours.name}; wait for it" in refused
    driver.wait_until(lambda: {ours.name, theirs.name} <= hosts_asked(run_dir))
    ours.kill()
    driver.process.wait(timeout=20)
    before = snapshot(run_dir)
    code, printed = drive_slowly(theirs, head, alone.config_file, run_dir, *replicas).ended()
    assert code == 0, printed
    assert re.search(WAITS.format(ours.name), printed, re.MULTILINE), printed
    started = first_starts(run_dir)
    assert abs((started[ours.name] - started[theirs.name]).total_seconds() - apart) < HOUR / 2
    assert_whole(run_dir, alone.run_dir, printed=refused + driver.printed + printed, before=before)


def first_starts(run_dir: Path) -> dict[str, datetime]:
    """Host -> the time of its first engine's start, by its own clock."""
    logs = "".join(file.read_text() for file in (run_dir / "engines").glob("*.log"))
    found: dict[str, datetime] = {}
    for time, host in sorted(re.findall(r"start \w+ at (\S+) on (\S+)$", logs, re.MULTILINE)):
        found.setdefault(host, datetime.fromisoformat(time))
    return found
