"""A run's rationales, gone through again by Ray tasks, and the rest asked for by an engine.

Stored answers are marked, so that it shows whose answer stands in a row.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale, Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import UnitName, read_refused, read_unit, write_unit
from ray_jobs.dispatch.unit_receipts import REGRADED, token_counts
from ray_jobs.pipeline import run_all
from ray_jobs.regrading.regrade import regrade
from ray_jobs.run import open_run
from tests.conftest import FinishedRun, quiet, source_of
from tests.ray_jobs.test_pipeline import dataset_bytes

pytestmark = pytest.mark.usefixtures("local_ray")

Verdict = Callable[[Rationale], str]
"""An older grader's fault of an answer; empty if it accepted it."""
MARK = "\n \n"
"""Begins a stored text; spaces alone, so that two answers are one text with it as without."""


def as_now(row: Rationale) -> str:
    return row.fault


def older_run(
    undisturbed: FinishedRun,
    run_dir: Path,
    verdict: Verdict = as_now,
    *,
    kept: Collection[int] = range(9),
    keeps_refused: bool = True,
) -> Path:
    """A copy of a run whose answers are marked, and judged by another grader.

    Its attempts end where that grader's verdicts end them, but for those that are not `kept`.
    """
    shutil.copytree(undisturbed.run_dir, run_dir)
    receipts = []
    for old in read_ledger(run_dir).units.values():
        if old.stage != "rationales":
            receipts += [old] if old.stage != "examples" else []
            continue
        accepted, _ = read_unit(run_dir, old, Rationale)
        refused = read_refused(run_dir, old, Rationale)
        rows = sorted([*accepted, *refused], key=lambda row: row.attempt)
        judged: dict[str, list[Rationale]] = {}
        for row in rows:
            said = judged.setdefault(row.problem_id, [])
            if row.attempt in kept and (not said or said[-1].fault):
                text = MARK + row.text
                said.append(dataclasses.replace(row, fault=verdict(row), text=text, answer="?"))
        every = [row for said in judged.values() for row in said]
        right = [row for row in every if not row.fault]
        lost = [
            Rejection(problem_id=i, stage="rationales", reason=said[-1].fault, detail="")
            for i, said in judged.items()
            if said and said[-1].fault
        ]
        name = UnitName(
            stage=old.stage, stage_key=old.stage_key, unit=old.unit, group=old.group, driver="e"
        )
        wrong = [row for row in every if row.fault] if keeps_refused else []
        counts = token_counts(right)
        receipts.append(write_unit(run_dir, name, right, Rationale, lost, counts, refused=wrong))
    (run_dir / "ledger.jsonl").unlink()
    ledger = Ledger(run_dir=run_dir, writable=True)
    ledger.commit(receipts)
    ledger.write_tip()
    return run_dir


def regraded(config: Config, source: Path) -> tuple[str, ...]:
    with open_run(config, quiet) as run:
        return regrade(run, source_of(source, config)).lines


def finished(config: Config) -> Path:
    with open_run(config, quiet) as run:
        run_all(run)
    found = verify(Path(config.run_dir))
    assert (found.findings, found.notes) == ([], [])
    return Path(config.run_dir)


def answers(run_dir: Path) -> dict[tuple[str, int], Rationale]:
    """(problem, attempt) -> the answer, accepted or refused."""
    found: list[Rationale] = []
    for receipt in read_ledger(run_dir).committed("rationales"):
        found += read_records(run_dir, receipt.accepted, Rationale)
        found += read_refused(run_dir, receipt, Rationale)
    return {(row.problem_id, row.attempt): row for row in found}


def unmarked(rows: dict[tuple[str, int], Rationale]) -> dict[tuple[str, int], Rationale]:
    return {
        key: dataclasses.replace(row, text=row.text.removeprefix(MARK)) for key, row in rows.items()
    }


def marked(rows: dict[tuple[str, int], Rationale]) -> set[tuple[str, int]]:
    return {key for key, row in rows.items() if row.text.startswith(MARK)}


def config_of(undisturbed: FinishedRun, run_dir: Path, *sets: str) -> Config:
    return load_config(undisturbed.config_file, [*sets, f"run_dir={run_dir}"])


def test_a_run_with_all_its_answers_is_carried_over_without_the_teacher(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(undisturbed, tmp_path / "old")
    config = config_of(undisturbed, tmp_path / "run")
    lines = regraded(config, source)
    units = read_ledger(tmp_path / "run").committed("rationales")
    assert all(REGRADED in receipt.counts for receipt in units)
    assert (
        f"rationales: {len(units)} of {len(units)} units carried over without the teacher (40 "
        "problems; accepted and now refused: 0, refused and now accepted: 0)" in lines
    )
    before, after = answers(undisturbed.run_dir), answers(tmp_path / "run")
    assert unmarked(after) == before and marked(after) == set(before)
    assert verify(tmp_path / "run").findings == []
    assert not (tmp_path / "run" / "regraded").exists()
    shutil.rmtree(source)
    finished(config)
    assert marked(answers(tmp_path / "run")) == set(before)


def is_even(row: Rationale) -> bool:
    return sum(map(ord, row.problem_id)) % 2 == 0


def too_strict(row: Rationale) -> str:
    """The verdict of a grader that cannot read some right answers."""
    return "unparsed" if is_even(row) else row.fault


def too_lax(row: Rationale) -> str:
    """The verdict of a grader that takes some wrong answers for right."""
    return "" if is_even(row) and row.fault == "incorrect" else row.fault


@pytest.mark.parametrize(
    ("verdict", "kept", "keeps_refused"),
    [
        (too_strict, (0, 1), True),
        (too_lax, (0, 1), True),
        (as_now, (0, 1), False),
        (as_now, (0,), True),
    ],
    ids=["too_strict", "too_lax", "refused_not_kept", "fewer_attempts"],
)
def test_the_teacher_is_asked_for_what_is_not_stored_and_for_nothing_else(
    undisturbed: FinishedRun,
    tmp_path: Path,
    verdict: Verdict,
    kept: tuple[int, ...],
    keeps_refused: bool,
) -> None:
    source = older_run(
        undisturbed, tmp_path / "old", verdict, kept=kept, keeps_refused=keeps_refused
    )
    stored = answers(source)
    before = answers(undisturbed.run_dir)
    config = config_of(undisturbed, tmp_path / "run")
    lines = regraded(config, source)
    assert verify(tmp_path / "run").findings == []
    missing = {key for key in before if key not in stored}
    open_ = len({problem_id for problem_id, _ in missing})
    said = [line for line in lines if line.startswith("rationales: ")]
    assert any(
        f"rationales: open for the teacher: {open_} problems of " in line for line in said
    ) == bool(missing), said
    shutil.rmtree(source)  # what is needed of it stands in the run
    finished(config)
    after = answers(tmp_path / "run")
    assert unmarked(after) == before
    assert marked(after) == set(before) - missing
    if not missing:
        assert verdict is too_strict and "now accepted: 0)" not in said[0]


def test_damaged_stored_answers_cost_the_teacher_their_units_and_nothing_else(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(undisturbed, tmp_path / "old", kept=(0,))
    config = config_of(undisturbed, tmp_path / "run")
    regraded(config, source)
    victim = next((tmp_path / "run" / "regraded").glob("*.arrow"))
    victim.write_bytes(victim.read_bytes()[:-1])
    lines: list[str] = []
    with open_run(config, quiet, lines.append) as run:
        run_all(run)
    assert any(victim.name in line and "asked again" in line for line in lines)
    assert unmarked(answers(tmp_path / "run")) == answers(undisturbed.run_dir)
    assert verify(tmp_path / "run").findings == []


def test_another_teacher_carries_nothing_over_and_the_line_says_why(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(undisturbed, tmp_path / "old")
    config = config_of(undisturbed, tmp_path / "run", "rationales.temperature=0.9")
    lines = regraded(config, source)
    assert any(
        line.startswith("rationales: the teacher is another one or asked differently")
        and "temperature: " in line
        for line in lines
    )
    assert read_ledger(tmp_path / "run").committed("rationales") == []
    assert not (tmp_path / "run" / "regraded").exists()


@pytest.mark.parametrize(
    ("sets", "needs_teacher"),
    [
        pytest.param(("rationales.max_attempts=1",), False, marks=pytest.mark.slow),
        pytest.param(("rationales.max_attempts=3",), True, marks=pytest.mark.slow),
        (("rationales.verify=false",), False),
        (("rationales.per_problem=2", "rationales.max_attempts=3"), True),
        pytest.param(("rationales.keep_refused=false",), False, marks=pytest.mark.slow),
    ],
)
def test_when_to_stop_asking_may_differ_and_the_run_is_as_if_the_teacher_were_asked(
    undisturbed: FinishedRun, tmp_path: Path, sets: tuple[str, ...], needs_teacher: bool
) -> None:
    source = older_run(undisturbed, tmp_path / "old")
    config = config_of(undisturbed, tmp_path / "run", *sets)
    lines = regraded(config, source)
    assert any("open for the teacher: " in line for line in lines) == needs_teacher
    finished(config)
    fresh = config_of(undisturbed, tmp_path / "fresh" / "run", *sets)
    finished(fresh)
    after = answers(tmp_path / "run")
    assert unmarked(after) == answers(tmp_path / "fresh" / "run")
    assert marked(after) == set(after) & set(answers(source))


def test_a_policy_that_needs_no_scores_has_rationales_to_carry_over(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    policy = "selection.policy=fixed:step_by_step"
    source = finished(config_of(undisturbed, tmp_path / "old" / "run", policy))
    config = config_of(undisturbed, tmp_path / "run", policy)
    lines = regraded(config, source)
    assert any("units carried over without the teacher (40 problems" in line for line in lines)
    assert answers(tmp_path / "run") == answers(source)
    finished(config)
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(source)


def test_a_unit_that_lost_its_marks_is_equal_to_the_undisturbed_dataset(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    config = config_of(undisturbed, tmp_path / "run")
    regraded(config, undisturbed.run_dir)
    finished(config)
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(undisturbed.run_dir)
