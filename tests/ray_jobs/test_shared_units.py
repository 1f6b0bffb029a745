"""Several engines that share the units of few tasks make what one engine makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.unlisted import unlisted_files
from orca2_gen.selection.blocks import SURVIVORS
from ray_jobs.engines import placement
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import FinishedRun, quiet
from tests.faults.faulty import FaultyActor, asked, happened, plant
from tests.faults.oracle import assert_whole

ENGINES = 4
PROBLEMS = [f"{task}/train/{task[0]}{n}" for task in ("sums", "letters") for n in range(64)]
# No problem is done before the last engine has begun to start.
SHARED = {
    "slow": dict.fromkeys(PROBLEMS, 1.0),
    "waits_for": dict.fromkeys(PROBLEMS, f"engines/*-{ENGINES - 1}.log"),
}


def run(config_file: Path, run_dir: Path, *sets: str) -> list[str]:
    """The lines for people of a race in which no strategy falls, so that there are many blocks."""
    said: list[str] = []
    race = ["selection.method=race", "selection.delta=1e-9", "selection.scored_problems=28"]
    config = load_config(config_file, [f"run_dir={run_dir}", *race, *sets])
    with open_run(config, quiet, said.append) as opened:
        run_all(opened)
    return said


@pytest.fixture(scope="module")
def one_engine(undisturbed: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("one") / "run"
    run(undisturbed.config_file, run_dir)
    return run_dir


def engines_by_unit(run_dir: Path, role: str) -> dict[str, set[int]]:
    """Problem's task -> the engines that were asked about one of its problems."""
    found: dict[str, set[int]] = {}
    for pid, request in asked(run_dir):
        asked_role, *_, problem_id = request.split("|")
        if asked_role == role:
            found.setdefault(problem_id.split("/")[0], set()).add(pid)
    return found


@pytest.mark.parametrize("dies", [pytest.param(False, marks=pytest.mark.slow), True])
def test_engines_share_a_units_problems_and_its_files_are_those_of_one_engine(
    undisturbed: FinishedRun,
    one_engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dies: bool,
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    first = read_ledger(one_engine).committed("scores")[0].unit
    plant(run_dir, **SHARED, die_on=dict.fromkeys(PROBLEMS[1:6:2], 1) if dies else {})
    replicas = [f"student.replicas={ENGINES}", f"teacher.replicas={ENGINES}"]
    said = run(undisturbed.config_file, run_dir, *replicas, "dispatch.backoff_seconds=0.1")
    assert first in {receipt.unit for receipt in read_ledger(run_dir).committed("scores")}
    assert_whole(run_dir, one_engine, printed="\n".join(said))
    shared = engines_by_unit(run_dir, "student")
    assert max(len(engines) for engines in shared.values()) > 2, shared
    if dies:
        assert happened(run_dir, "die_on") > 0
    else:
        assert unlisted_files(read_ledger(run_dir)) == []
        assert not any("that no line of the ledger lists" in line for line in said)
        assert {receipt.attempt for receipt in read_ledger(run_dir).units.values()} == {1}


RACE = (
    "selection.method=race",
    "selection.delta=0.2",
    "selection.scored_problems=60",
    "selection.block_size=4",
    "student.accuracy.direct_answer=0.9",
    "student.accuracy.step_by_step=0.6",
)


def test_a_race_has_the_same_files_however_far_engines_work_ahead_of_it(
    undisturbed: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(undisturbed.config_file, tmp_path / "one" / "run", *RACE, "dispatch.schedule=overlapped")
    ledger = read_ledger(tmp_path / "one" / "run")
    survivors = {receipt.counts[SURVIVORS] for receipt in ledger.committed("scores")}
    assert len(survivors) > 2, "strategies fall one after another"
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "ahead" / "run"
    plant(run_dir, slow=dict.fromkeys(PROBLEMS, 0.1))
    sets = ["student.replicas=2", "dispatch.prefer=shortest_time"]
    said = run(undisturbed.config_file, run_dir, *RACE, *sets)
    assert_whole(run_dir, tmp_path / "one" / "run", printed="\n".join(said))
    assert unlisted_files(read_ledger(run_dir)) == []
    [line] = [line for line in said if line.startswith("worked ahead of races: ")]
    used, needed, dropped = (int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", line)[:3])
    assert used > 0 and dropped > 0
    tasks = [receipt.counts["accepted"] for receipt in ledger.committed("scores")]
    assert needed == sum(tasks)
