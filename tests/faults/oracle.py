"""One oracle for every fault: the invariants of a run, whatever happened to it (I1 to I8).

I1  accepted + rejected + not_needed = input, by id; no id twice
I2  every listed file has its size, rows and digest
I3  the content is that of an undisturbed run
I4  no temporary file, no unlisted file, no process, no placement group and no shared memory is left
I5  a resume redoes no committed unit
I6  exit code and reason (they differ, so each test asserts them)
I7  no instruction of the teacher in the output
I8  no secret in the output or in a file of the run
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util import placement_group_table

from orca2_gen.config.schema import Config
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import STAGES, Receipt
from orca2_gen.strategies import load_strategies
from ray_jobs.engines.orphans import SHARED_MEMORY, mapped, processes
from tests.faults.faulty import asked
from tests.faults.leaving import assert_leaves_whole

SESSION = "ORCA2_TEST_SESSION"
os.environ.setdefault(SESSION, str(os.getpid()))
SECRET = "orca2-test-secret-7f3a"
"""Secret in the environment of every faulty run, since importers of this file are collected before
any Ray starts; must never be printed or written."""
os.environ["API_KEY"] = SECRET


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The commits at the end of a driver, taken before the next one begins."""

    units: dict[tuple[str, str], Receipt]
    files: dict[str, tuple[int, int]]
    requests: int
    """Number of requests to faulty engines so far."""
    done: frozenset[tuple[str, ...]]
    """(role, strategy, problem id) of each committed score and (role, problem id) of each
    rationale, rejected or not."""


def snapshot(run_dir: Path) -> Snapshot:
    """The Snapshot of a run whose driver has ended."""
    ledger = read_ledger(run_dir)
    done: set[tuple[str, ...]] = set()
    for receipt in ledger.units.values():
        for entry in receipt.files if receipt.stage in ("scores", "rationales") else ():
            for row in read_table(run_dir, entry).to_pylist():
                if receipt.stage == "scores":
                    done.add((row["role"], row["strategy"], row["problem_id"]))
                else:
                    done.add(("teacher", row["problem_id"]))
    return Snapshot(
        units=dict(ledger.units),
        files=inodes(ledger),
        requests=len(asked(run_dir)),
        done=frozenset(done),
    )


def assert_not_redone(run_dir: Path, before: Snapshot) -> None:
    """Asserts I5: committed files are untouched, and no engine was asked again for their rows."""
    ledger = read_ledger(run_dir)
    assert before.units.items() <= ledger.units.items()
    assert before.files.items() <= inodes(ledger).items()
    for _, request in asked(run_dir)[before.requests :]:
        role, strategy, _, _, problem_id = request.split("|", 4)
        assert (role, strategy, problem_id) not in before.done, request
        assert (role, problem_id) not in before.done, request


def assert_whole(
    run_dir: Path,
    undisturbed: Path,
    *,
    lost: frozenset[str] = frozenset(),
    printed: str = "",
    before: Snapshot | None = None,
) -> None:
    """Asserts I1 to I4, I7 and I8, and of a resumed run I5.

    Args:
        run_dir: directory of the run.
        undisturbed: directory of a run without faults.
        lost: problems that may be rejected because engines died of them.
        printed: output of all its drivers.
        before: snapshot at the end of the driver before the last.
    """
    assert_sound(run_dir, printed=printed, before=before)
    ours, theirs = content(run_dir, lost), content(undisturbed, lost)  # I3
    for stage in STAGES:
        assert ours[stage] == theirs[stage], stage
    assert {r["problem_id"] for r in rejections(run_dir) if r["reason"] == "engine_died"} == lost


def assert_sound(
    run_dir: Path,
    *,
    printed: str,
    before: Snapshot | None = None,
    unused_before: set[Path] | None = None,
    is_finished: bool = True,
) -> None:
    """Asserts all but I3, for a run whose texts no other run has, or that stopped before its end.

    Args:
        run_dir: directory of the run, whose driver has ended in order.
        printed: output of all its drivers.
        before: snapshot at the end of the driver before the last.
        unused_before: unused_segments() before a run on real engines.
        is_finished: whether nothing is open.
    """
    found = verify(run_dir)  # I1, I2 and the proof of erasure
    assert found.findings == []
    assert found.notes == [] or not is_finished
    # I4: an engine that ends with a run that stopped may be writing, and the next driver tidies up.
    assert [str(path) for path in run_dir.rglob("*.tmp-*")] == [] or not is_finished
    assert list(run_dir.glob(".fingerprints-*")) == [] or not is_finished
    assert not (run_dir / "driver.lock").exists()
    assert_nothing_runs()
    if unused_before is not None:
        assert_no_segment_left(unused_before)
    if before is not None:
        assert_not_redone(run_dir, before)  # I5
    assert_no_instruction(run_dir)  # I7
    assert_no_secret(run_dir, printed)  # I8
    if is_finished:
        assert_leaves_whole(run_dir, SECRET)


def assert_no_secret(run_dir: Path, printed: str) -> None:
    """Asserts I8 for the output and for every file in the run directory."""
    assert os.environ["API_KEY"] == SECRET, "nothing would be shown"
    assert SECRET not in printed
    for path in run_dir.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def content(run_dir: Path, lost: frozenset[str]) -> dict[str, list[str]]:
    """Stage -> its sorted rows, accepted and rejected, without those of lost problems."""
    ledger = read_ledger(run_dir)
    rows: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for receipt in ledger.units.values():
        for entry in receipt.files:
            for row in read_table(run_dir, entry).to_pylist():
                if row.get("problem_id") not in lost:
                    rows[receipt.stage].append(json.dumps(row, sort_keys=True))
    if lost:  # a choice may then rest on fewer scores
        rows["selections"] = []
    return {stage: sorted(found) for stage, found in rows.items()}


def rejections(run_dir: Path) -> list[dict[str, Any]]:
    return [
        row
        for receipt in read_ledger(run_dir).units.values()
        if receipt.rejections is not None
        for row in read_table(run_dir, receipt.rejections).to_pylist()
    ]


def assert_nothing_runs(seconds: float = 10.0) -> None:
    """Asserts that within `seconds` no engine, engine process or placement group is left."""
    if ray.is_initialized():
        states = Counter(group["state"] for group in placement_group_table().values())
        assert set(states) <= {"REMOVED"}
    end = time.monotonic() + seconds
    while (left := engine_processes()) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


def unused_segments() -> set[Path]:
    """Files in shared memory, whatever their names, that no process has mapped."""
    files = {path for path in SHARED_MEMORY.iterdir() if path.is_file()}
    return files - mapped(files, processes())


def assert_no_segment_left(before: set[Path], seconds: float = 20.0) -> None:
    """Asserts that within `seconds` no unused shared memory is left that was not before."""
    end = time.monotonic() + seconds
    while (left := unused_segments() - before) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == set(), left


ACTORS = ("ray::EngineActor", "ray::FaultyActor")


def engine_processes() -> list[str]:
    """The running engine processes of this session, our actors and vLLM's, as `pid name`."""
    found = named("VLLM", *ACTORS)
    return [f"{process.pid} {process.info['name'] or process.info['cmdline']}" for process in found]


def named(*prefixes: str) -> list[psutil.Process]:
    """The running processes of this session whose name or command begins with one of these.

    A variable that every descendant inherits, even an orphan, marks them: other runs may share the
    machine.
    """
    found = []
    for process in psutil.process_iter(["name", "cmdline", "status", "environ"]):
        line = " ".join(process.info["cmdline"] or ())
        is_named = (process.info["name"] or "").startswith(prefixes) or line.startswith(prefixes)
        is_ours = (process.info["environ"] or {}).get(SESSION) == os.environ[SESSION]
        if is_named and is_ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def assert_no_instruction(run_dir: Path) -> None:
    """Asserts that no column of the dataset holds a strategy's instruction."""
    config = Config.model_validate(json.loads((run_dir / "config.json").read_text())["config"])
    instructions = load_strategies(config.strategies).instructions.values()
    if not (run_dir / "dataset").exists():
        return
    for example in read_examples(run_dir / "dataset", checked_manifest(run_dir / "dataset")):
        for message in example.messages:
            assert not any(text in message.content for text in instructions)


def committed(run_dir: Path) -> Counter[str]:
    """Stage -> committed units."""
    return Counter(stage for stage, _ in read_ledger(run_dir).units)


def inodes(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Committed file -> inode and modification time, which I5 compares around a resume."""
    return {
        entry.path: (
            os.stat(ledger.run_dir / entry.path).st_ino,
            os.stat(ledger.run_dir / entry.path).st_mtime_ns,
        )
        for receipt in ledger.units.values()
        for entry in receipt.files
    }
