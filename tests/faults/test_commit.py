"""The commit protocol, interrupted at every step (faults 14, 16, 17, 42, 46)."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.records import Rejection
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from tests.faults import fail_points
from tests.faults.fail_points import UNITS, drive, row

ROOT = Path(__file__).parents[2]


def num_points(*arguments: str) -> int:
    """The number of points at which a driver ended and another then made the run whole."""
    child = subprocess.run(
        [sys.executable, "-m", fail_points.__name__, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return int(child.stdout)


def test_17_a_driver_ended_before_or_after_any_disk_call_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    # Each of five units has two files, each with an fsync, a rename and an fsync of its directory.
    assert num_points("all", str(tmp_path)) > 5 * 2 * 3


def test_17_a_dataset_ended_at_any_disk_call_is_either_declared_and_whole_or_made_again(
    tmp_path: Path, chatml_dir: Path
) -> None:
    # Three shards, two descriptions, a card and the manifest, each with three calls.
    assert num_points("dataset", str(tmp_path), str(chatml_dir)) > 7 * 3


def test_17_a_fork_ended_at_any_disk_call_is_completed_by_the_same_command(
    tmp_path: Path,
) -> None:
    # Each of five units has two files, each with a link.
    assert num_points("fork", str(tmp_path)) > 5 * 2


def test_17_a_ledger_cut_at_any_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    drive(tmp_path / "run", "aa")
    path = tmp_path / "run" / "ledger.jsonl"
    body = path.read_bytes()
    # As a crash leaves them: a tip counts no line that was not acknowledged.
    tip = json.dumps({"lines": 0, "chain": ""})
    (tmp_path / "run" / "ledger.tip.json").write_text(tip)
    for length in range(len(body)):
        path.write_bytes(body[:length])
        ledger = read_ledger(tmp_path / "run")
        assert len(ledger.units) == body[:length].count(b"\n")
        assert bool(ledger.notes) == (not body[:length].endswith(b"\n") and length > 0)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.faults.fail_points import drive
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
drive(Path(sys.argv[1]), "aa")
"""


@pytest.mark.parametrize("most_bytes", [0, 100, 700, 1000, 1500, 2000])
def test_14_a_file_that_cannot_be_written_whole_is_named_and_never_committed(
    tmp_path: Path, most_bytes: int
) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    run_dir = tmp_path / "run"
    child = run_python(LIMITED, str(run_dir), str(most_bytes))
    assert child.returncode != 0
    assert "OSError" in child.stderr and str(run_dir) in child.stderr
    before = dict(read_ledger(run_dir).units)
    made = drive(run_dir, "bb")
    fail_points.check(read_ledger(run_dir), before, made)


def in_a_mount_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """The result of a shell script that may mount file systems; skips if nobody may."""
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no mount namespaces here: {probe.stderr.strip()}")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_14_a_full_disk_names_the_file_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    run = f"{sys.executable} -m {fail_points.__name__}"
    child = in_a_mount_namespace(
        f"mount -t tmpfs -o size=16k t {tmp_path}; {run} drive {tmp_path}/run; echo code $?; "
        f"mount -o remount,size=4m {tmp_path}; {run} resume {tmp_path}/run"
    )
    assert "code 1" in child.stdout, child.stderr
    assert "No space left on device" in child.stderr and "run/" in child.stderr
    assert "whole" in child.stdout, child.stderr


def test_16_a_run_directory_that_may_not_be_written_is_one_clear_error(tmp_path: Path) -> None:
    run = f"{sys.executable} -m {fail_points.__name__}"
    child = in_a_mount_namespace(f"mount -t tmpfs -o ro t {tmp_path}; {run} drive {tmp_path}/run")
    assert child.returncode != 0
    assert f"Read-only file system: '{tmp_path}/run'" in child.stderr


def test_16_a_commit_that_could_not_be_made_durable_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An fsync reports an error: the driver stops, and only its acknowledged commits count."""
    ledger = read_ledger(tmp_path, writable=True)
    name = UnitName(stage="problems", stage_key="k", unit=UNITS[0], driver="aa")
    receipt = write_unit(tmp_path, name, [row("x")], Rejection)

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output error"):
            ledger.commit([receipt])
    assert ("problems", UNITS[0]) not in ledger.units


def test_42_a_path_with_spaces_and_letters_beyond_ascii_works(tmp_path: Path) -> None:
    run_dir = tmp_path / "l\u00e4ufe und m\u0101ori" / "run 1"
    assert drive(run_dir, "aa") == UNITS
    fail_points.check(read_ledger(run_dir), {}, UNITS)


def test_46_temporary_files_of_a_dead_driver_are_removed_and_its_units_set_aside(
    tmp_path: Path,
) -> None:
    drive(tmp_path / "run", "aa")
    stale = tmp_path / "run" / "problems" / ".sums-000001.a1-aa.arrow.tmp-host-1-abcd"
    stale.write_bytes(b"half")
    late = tmp_path / "run" / "problems" / "sums-000001.a1-cc.arrow"
    late.write_bytes(b"late")
    drive(tmp_path / "run", "bb")
    assert not stale.exists() and not late.exists()
    assert (tmp_path / "run" / "set-aside" / "problems" / late.name).read_bytes() == b"late"
