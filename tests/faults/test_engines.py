"""Scripted engines that die, hang, start badly, are slow or differ.

Faults 1, 2, 4, 12, 13, 36, 37, 43; test_real_engines.py has the real engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.foresight.amounts import Amount
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.pipeline import read_tasks, run_all, score_student
from ray_jobs.run import open_run
from tests.conftest import NUM_LETTERS, NUM_SUMS, STRATEGY_NAMES, FinishedRun, quiet
from tests.faults.faulty import happened, plant
from tests.faults.oracle import (
    ACTORS,
    SECRET,
    assert_sound,
    assert_whole,
    content,
    named,
    rejections,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("local_ray", "faulty_engines")

QUICK = ("dispatch.backoff_seconds=0.1",)
POISON = "sums/train/s11"


def run_to_the_end(undisturbed: FinishedRun, run_dir: Path, *overrides: str) -> list[str]:
    """The lines that were said while the run went to its end."""
    said: list[str] = []
    sets = [f"run_dir={run_dir}", *QUICK, *overrides]
    with open_run(load_config(undisturbed.config_file, sets), quiet, said.append) as run:
        run_all(run)
    return said


def test_the_oracle_sees_an_engine_that_runs(undisturbed: FinishedRun, tmp_path: Path) -> None:
    seen: list[list[psutil.Process]] = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        yield lambda receipt: seen.append(named(*ACTORS) if stage == "scores" else [])

    plant(tmp_path / "run")
    with open_run(
        load_config(undisturbed.config_file, [f"run_dir={tmp_path / 'run'}"]), track
    ) as run:
        read_tasks(run)
        score_student(run)
    engines = [process for processes in seen for process in processes]
    assert engines
    # The secret is where it could be printed.
    assert all(process.info["environ"]["API_KEY"] == SECRET for process in engines)


def test_1_an_engine_that_dies_at_once_or_later_costs_no_row(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, die_after=[1, 100])
    said = run_to_the_end(undisturbed, run_dir)
    assert happened(run_dir, "die_after.1") == happened(run_dir, "die_after.100") == 1
    assert sum("died" in line for line in said) == 2
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said))


@pytest.mark.slow
def test_1_an_engine_that_dies_of_everything_ends_the_run_and_no_problem_is_blamed(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, die_on_role="teacher")
    with pytest.raises(RuntimeError, match="died 48 times in a row") as stopped:
        run_to_the_end(undisturbed, run_dir)
    assert read_ledger(run_dir).committed("rationales") == []
    assert_sound(run_dir, printed=str(stopped.value), is_finished=False)
    before = snapshot(run_dir)
    plant(run_dir)
    said = run_to_the_end(undisturbed, run_dir)
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said), before=before)


@pytest.mark.slow
@pytest.mark.parametrize("poison", [{POISON}, {POISON, "sums/train/s12", "letters/train/0"}])
def test_2_a_problem_that_kills_every_engine_is_the_only_one_lost(
    undisturbed: FinishedRun, tmp_path: Path, poison: set[str]
) -> None:
    # Without one problem a race may rightly go on after it would have been decided; a grid asks the
    # same of all others.
    grid = tmp_path / "grid" / "run"
    plant(grid)
    run_to_the_end(undisturbed, grid, "selection.method=full_grid")
    run_dir = tmp_path / "run"
    plant(run_dir, die_on=dict.fromkeys(poison, -1))
    said = run_to_the_end(undisturbed, run_dir, "selection.method=full_grid")
    assert_whole(run_dir, grid, lost=frozenset(poison), printed="\n".join(said))
    ledger = read_ledger(run_dir)
    taught = sum(receipt.counts["input"] for receipt in ledger.committed("rationales"))
    assert taught == NUM_SUMS + NUM_LETTERS


@pytest.mark.slow
def test_2_a_race_goes_on_without_the_problem_that_kills_every_engine(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, die_on={"student|letters/train/0": -1})
    said = run_to_the_end(undisturbed, run_dir)
    # The selections follow from the scores that exist.
    assert_sound(run_dir, printed="\n".join(said))
    ledger = read_ledger(run_dir)
    lost = {"letters/train/0"}
    assert {r["problem_id"] for r in rejections(run_dir) if r["reason"] == "engine_died"} == lost
    blocks = [
        sum(r.group == "letters" for r in read_ledger(d).committed("scores"))
        for d in (run_dir, undisturbed.run_dir)
    ]
    assert blocks[0] > blocks[1], "it was to be decided later, or this shows nothing"
    taught = sum(receipt.counts["input"] for receipt in ledger.committed("rationales"))
    assert taught == NUM_SUMS + NUM_LETTERS


@pytest.mark.slow
def test_2_a_problem_that_killed_once_is_asked_again_and_kept(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, die_on={POISON: 2})
    said = run_to_the_end(undisturbed, run_dir)
    assert happened(run_dir, "die_on") == 2
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said))


def test_4_an_engine_that_makes_no_token_is_replaced(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, hang_on=[POISON])
    said = run_to_the_end(undisturbed, run_dir, "dispatch.stall_seconds=1.5")
    assert happened(run_dir, "hang_on") == 1
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said))


@pytest.mark.slow
def test_12_starts_that_fail_are_tried_again_a_bounded_number_of_times(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, fail_starts=5)  # all that this run allows, and two of the next
    with pytest.raises(RuntimeError, match=r"failed to start 3 times.*planned: this engine"):
        run_to_the_end(undisturbed, run_dir)
    assert happened(run_dir, "fail_starts") == 3
    before = snapshot(run_dir)
    said = run_to_the_end(undisturbed, run_dir)
    assert sum("did not start" in line for line in said) == 2
    assert_whole(run_dir, undisturbed.run_dir, before=before)


def test_13_a_slow_start_is_no_failure(undisturbed: FinishedRun, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow_start=2.0)
    said = run_to_the_end(undisturbed, run_dir, "dispatch.stall_seconds=1")
    assert not any(line.startswith("engine") for line in said)
    assert_whole(run_dir, undisturbed.run_dir)


@pytest.mark.slow
def test_36_a_slow_request_is_cut_off_at_its_deadline_and_the_others_are_not(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow={POISON: 1e5})
    said = run_to_the_end(undisturbed, run_dir, "dispatch.request_seconds=2")
    ours = content(run_dir, frozenset([POISON]))
    theirs = content(undisturbed.run_dir, frozenset([POISON]))
    assert ours == theirs
    reasons = [row["reason"] for row in rejections(run_dir) if row["problem_id"] == POISON]
    assert reasons == ["truncated"]
    assert_sound(run_dir, printed="\n".join(said))


def test_37_a_run_that_rejects_everything_stops_early(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    nobody = "{" + ", ".join(f"{name} = 0.0" for name in STRATEGY_NAMES) + "}"
    settings = (
        f"teacher.accuracy={nobody}",
        "dispatch.rejection_rows=8",
        "teacher.max_num_seqs=1",
    )
    with pytest.raises(TooManyRejections, match=r"rationales: .* were rejected") as stopped:
        run_to_the_end(undisturbed, run_dir, *settings)
    committed = read_ledger(run_dir).committed("rationales")
    assert 8 <= sum(receipt.counts["input"] for receipt in committed) < NUM_SUMS + NUM_LETTERS
    assert_sound(run_dir, printed=str(stopped.value), is_finished=False)
    # A cluster that submits a job again must not let it succeed because the counts were forgotten.
    with pytest.raises(TooManyRejections, match=r"rationales: .* were rejected"):
        run_to_the_end(undisturbed, run_dir, *settings)
    assert read_ledger(run_dir).committed("rationales") == committed
    run_to_the_end(undisturbed, run_dir, *settings, "dispatch.max_rejection_rate=1.0")
    assert_sound(run_dir, printed=str(stopped.value))


@pytest.mark.slow
def test_43_engines_of_other_versions_are_refused_and_the_run_goes_on_without_them(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, skewed=1, slow={POISON: 60.0})  # still asked when the second engine is up
    with pytest.raises(ValueError, match=r"other versions than the first: .*vllm"):
        run_to_the_end(undisturbed, run_dir, "student.replicas=2")
    assert happened(run_dir, "skewed") == 1
    assert_sound(run_dir, printed="", is_finished=False)
    before = snapshot(run_dir)
    plant(run_dir)
    said = run_to_the_end(undisturbed, run_dir, "student.replicas=2")
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said), before=before)
