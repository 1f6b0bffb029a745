"""Machines whose clocks are an hour apart: rows are equal, and no lock is taken from the living."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orca2_gen.exit_codes import FAILED
from tests.conftest import FinishedRun
from tests.faults.faulty import hosts_asked, plant
from tests.faults.oracle import assert_whole, committed
from tests.machines.clusters import ENGINES, cluster_of, drive_slowly
from tests.machines.namespaces import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

HOUR = 3600
SLOW = {f"sums/train/s{n}": 8.0 for n in range(28)}
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
def test_a_run_is_kept_and_whole_where_clocks_are_an_hour_apart(
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
    plant(run_dir, slow=SLOW)
    replicas = ("student.replicas=2", "teacher.replicas=2")
    driver = drive_slowly(ours, head, alone.config_file, run_dir, *replicas)
    driver.wait_until(lambda: run_dir.exists() and committed(run_dir)["scores"] > 0)
    code, refused = drive_slowly(theirs, head, alone.config_file, run_dir).ended()
    assert code == FAILED, refused
    assert re.search(WAITS.format(ours.name), refused, re.MULTILINE), refused
    assert "is in use by process" in refused and f"on {ours.name}; wait for it" in refused
    code, printed = driver.ended()
    assert code == 0, printed
    assert {ours.name, theirs.name} <= hosts_asked(run_dir)
    assert_whole(run_dir, alone.run_dir, printed=printed)
