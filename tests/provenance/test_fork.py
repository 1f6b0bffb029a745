from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.provenance.fork import fork_run
from orca2_gen.run_directory.arrow_files import checked_bytes
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun, forked, keys_of

STAGES = ("problems", "scores", "selections", "rationales", "examples")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.sets(st.sampled_from(STAGES)))
def test_exactly_the_units_of_an_equal_key_are_taken_over(
    undisturbed: FinishedRun, tmp_path_factory: pytest.TempPathFactory, kept: set[str]
) -> None:
    keys = keys_of(undisturbed.config)
    wanted = {stage: key if stage in kept else "other" for stage, key in keys.items()}
    target = tmp_path_factory.mktemp("fork")
    assert set(forked(undisturbed.run_dir, target, wanted)) == kept
    before, after = read_ledger(undisturbed.run_dir), read_ledger(target)
    for stage in STAGES:
        assert after.committed(stage) == (before.committed(stage) if stage in kept else [])
        for receipt in after.committed(stage):
            assert all(checked_bytes(target, entry) for entry in receipt.files)


def test_a_fork_into_a_run_or_from_nothing_is_refused(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="has commits already"):
        forked(undisturbed.run_dir, undisturbed.run_dir, {})
    with pytest.raises(ValueError, match="nothing does not exist; give the directory of a run"):
        forked(tmp_path / "nothing", tmp_path / "target", {})


def test_a_fork_that_was_cut_short_is_completed_and_one_that_went_on_is_left_alone(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    keys = keys_of(undisturbed.config)
    forked(undisturbed.run_dir, tmp_path / "fork", keys)
    file = tmp_path / "fork" / "ledger.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:5]))
    (tmp_path / "fork" / "ledger.tip.json").unlink()  # a fork is one commit, after which it comes
    assert forked(undisturbed.run_dir, tmp_path / "fork", keys)
    assert file.read_text() == "".join(lines)
    own = read_ledger(tmp_path / "fork").committed("scores")[0]
    kept = read_ledger(undisturbed.run_dir).committed("problems")
    # What a command that is repeated after `orca2 evaluate` finds.
    files = tuple(
        dataclasses.replace(entry, path=entry.path.replace("scores/", "evaluation/"))
        for entry in own.files
    )
    evaluated = dataclasses.replace(own, stage="evaluation", stage_key="of a model", files=files)
    read_ledger(tmp_path / "fork", writable=True).commit([evaluated])
    assert forked(undisturbed.run_dir, tmp_path / "fork", keys) == ()
    target = tmp_path / "own"
    target.mkdir()
    read_ledger(target, writable=True).commit([*kept, dataclasses.replace(own, attempt=9)])
    assert forked(undisturbed.run_dir, target, keys) == ()


FALLS = {
    "problems": {"problems"},
    "scores": {"scores", "selections", "rationales", "examples"},
    "selections": {"selections"},
    "rationales": {"rationales", "examples"},
    "examples": {"examples"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_unit_is_left_behind_with_what_might_now_come_out_otherwise(
    undisturbed: FinishedRun, run_copy: Path, tmp_path: Path, stage: str
) -> None:
    keys = keys_of(undisturbed.config)
    before = read_ledger(run_copy)
    hit = before.committed(stage)[0]
    path = run_copy / hit.accepted.path
    path.write_bytes(path.read_bytes()[:-1])
    target = tmp_path / "fork"
    target.mkdir()
    ledger = read_ledger(target, writable=True)
    fork = fork_run(run_copy, ledger, keys)
    assert len(fork.damaged) == 1 and str(path) in fork.damaged[0]
    left = [receipt for name, receipt in before.units.items() if name not in ledger.units]
    assert hit in left and {receipt.stage for receipt in left} == FALLS[stage]
    if stage == "scores":
        assert {receipt.group for receipt in left} == {hit.group}
    else:
        assert {receipt.unit for receipt in left} == {hit.unit}
    assert all(checked_bytes(target, e) for r in ledger.units.values() for e in r.files)
