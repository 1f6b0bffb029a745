"""Kills a run's driver at random moments, restarts it, compares the end with an undisturbed run.

Usage: `python -m tests.faults.chaos [--config FILE] [--kills 20]` (`make chaos`).

With real engines ids and invariants must be equal, with scripted engines also the content; every
file committed before a kill must be the same file after it. A run that ends before its kill is
checked, and the next begins in a new folder. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orca2_gen.config.load import load_config
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import STAGES
from ray_jobs.demo import CONFIG
from tests.faults.oracle import (
    Snapshot,
    assert_not_redone,
    assert_sound,
    content,
    snapshot,
    unused_segments,
)

STARTED = 8.0
"""Seconds before a driver has done anything, for Ray and imports. Most kills come later."""


def start(config_file: Path, run_dir: Path, sets: list[str]) -> subprocess.Popen[str]:
    arguments = [word for value in (f"run_dir={run_dir}", *sets) for word in ("--set", value)]
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("orca2")), "run", str(config_file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ids(run_dir: Path) -> dict[str, list[str]]:
    """Stage -> the ids that it took in, accepted or not; selections by group."""
    ledger = read_ledger(run_dir)
    found: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for receipt in ledger.units.values():
        for entry in receipt.files:
            for row in read_table(run_dir, entry).to_pylist():
                key = row.get("problem_id") or row["group"]
                strategy = row.get("strategy", "") if receipt.stage == "scores" else ""
                found[receipt.stage].append(f"{key} {strategy}")
    return {stage: sorted(keys) for stage, keys in found.items()}


def check(run_dir: Path, undisturbed: Path, *, is_scripted: bool) -> None:
    """Asserts that a finished run equals the undisturbed one."""
    ours, theirs = ids(run_dir), ids(undisturbed)
    for stage in ("problems", "scores", "selections", "rationales"):
        assert ours[stage] == theirs[stage], f"{stage}: other ids than the undisturbed run"
    if is_scripted:
        assert content(run_dir, frozenset()) == content(undisturbed, frozenset())


def chaos(config_file: Path, kills: int, seed: int, sets: list[str], folder: Path) -> None:
    """Runs the kills and prints a line for each, then the figures as JSON."""
    is_scripted = load_config(config_file, sets).student.engine == "scripted"
    unused_before = unused_segments()
    undisturbed = folder / "undisturbed"
    started = time.monotonic()
    process = start(config_file, undisturbed, sets)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.0f} s, {len(read_ledger(undisturbed).units)} units", flush=True)
    rng = random.Random(seed)
    runs = done = 0
    run_dir = folder / "run-0"
    before: Snapshot | None = None
    while True:
        process = start(config_file, run_dir, sets)
        delay = rng.uniform(0.5 * STARTED, seconds) if done < kills else None
        try:
            printed, _ = process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            done += 1
            if before is not None:
                assert_not_redone(run_dir, before)
            before = snapshot(run_dir)
            print(
                f"kill {done} after {delay:.1f} s: {len(before.units)} units committed", flush=True
            )
            continue
        assert process.returncode == 0, printed
        assert_sound(run_dir, printed=printed, before=before, unused_before=unused_before)
        check(run_dir, undisturbed, is_scripted=is_scripted)
        runs += 1
        if done == kills:
            break
        print(f"run {runs} ended before its kill and is whole", flush=True)
        run_dir, before = folder / f"run-{runs}", None
    summary = {
        "config": config_file.name,
        "kills": done,
        "runs": runs,
        "undisturbed_seconds": round(seconds, 1),
        "equal": "content" if is_scripted else "ids",
    }
    print(json.dumps(summary))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orca2-chaos-") as folder:
        chaos(
            arguments.config.resolve(),
            arguments.kills,
            arguments.seed,
            arguments.sets,
            Path(folder),
        )


if __name__ == "__main__":
    main()
