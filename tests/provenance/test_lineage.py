from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.judging import judged
from orca2_gen.provenance.lineage import follows_from_scores, lineage_faults
from orca2_gen.provenance.verify import verify
from orca2_gen.records import (
    Example,
    Message,
    Problem,
    Rationale,
    Rejection,
    Selection,
    StudentScore,
)
from orca2_gen.run_directory.arrow_files import read_records, write_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.strategies import load_strategies
from tests.conftest import FinishedRun, forked, keys_of, quiet, ungraded_score
from tests.provenance.test_verify import rewrite_ledger

Change = Callable[[Any], Any]


def change_first_row(run_dir: Path, stage: str, record: type[Any], change: Change) -> None:
    """Rewrites the first row of a stage; file and ledger agree, only the meaning is off."""
    ledger = read_ledger(run_dir)
    receipt = ledger.committed(stage)[0]
    rows = read_records(run_dir, receipt.accepted, record)
    entry = write_records(run_dir, receipt.accepted.path, [change(rows[0]), *rows[1:]], record)
    changed = dataclasses.replace(receipt, files=(entry, *receipt.files[1:]))
    rewrite_ledger(run_dir, lambda all_: [changed if r == receipt else r for r in all_])


def faults(run: FinishedRun, run_dir: Path) -> list[str]:
    strategies = load_strategies(run.config.strategies)
    return list(lineage_faults(read_ledger(run_dir), run.config, strategies))


def with_text(example: Example, role: str, text: str) -> Example:
    turns = tuple(
        Message(role=m.role, content=text if m.role == role else m.content)
        for m in example.messages
    )
    return dataclasses.replace(example, messages=turns)


CHANGES: dict[str, tuple[str, type[Any], Change, str]] = {
    "a flipped score": (
        "scores",
        StudentScore,
        lambda s: dataclasses.replace(s, score=1.0 - s.score),
        "does not follow from its committed scores",
    ),
    "another chosen strategy": (
        "selections",
        Selection,
        lambda s: dataclasses.replace(s, strategy="explain_then_answer"),
        "does not follow from its committed scores",
    ),
    "another taught strategy": (
        "rationales",
        Rationale,
        lambda r: dataclasses.replace(r, strategy="extract_generate"),
        "was taught extract_generate",
    ),
    "an instruction in the user's mouth": (
        "rationales",
        Rationale,
        lambda r: dataclasses.replace(r, user=f"{r.system}\n{r.user}"),
        "asks something other than its problem",
    ),
    "an instruction in an example's user turn": (
        "examples",
        Example,
        lambda e: with_text(e, "user", "Work step by step. What is 1 + 1?"),
        "other words than its rationale",
    ),
    "another answer": (
        "examples",
        Example,
        lambda e: with_text(e, "assistant", "Answer: 7"),
        "other words than its rationale",
    ),
}


def test_an_undisturbed_run_follows_from_its_rows(undisturbed: FinishedRun) -> None:
    assert faults(undisturbed, undisturbed.run_dir) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_does_not_follow_is_found(
    undisturbed: FinishedRun, run_copy: Path, name: str
) -> None:
    stage, record, change, words = CHANGES[name]
    change_first_row(run_copy, stage, record, change)
    assert any(words in fault for fault in faults(undisturbed, run_copy))
    assert any(words in finding for finding in verify(run_copy).findings)


@pytest.mark.parametrize("policy", ["fixed:step_by_step", "random"])
def test_a_fork_to_a_policy_without_scores_verifies(
    undisturbed: FinishedRun, tmp_path: Path, policy: str
) -> None:
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    overrides = [f"run_dir={tmp_path / 'fork'}", f"selection.policy={policy}"]
    config = load_config(undisturbed.config_file, overrides)
    keys = keys_of(config)
    assert forked(undisturbed.run_dir, Path(config.run_dir), keys) == ("problems",)
    assert forked(undisturbed.run_dir, Path(config.run_dir), keys) == ()
    with open_run(config, quiet) as run:
        run_all(run)
    assert verify(Path(config.run_dir)).findings == []


def test_judgements_follow_from_the_scores_that_they_were_made_of_alone(
    tmp_path: Path, sum_problem: Problem
) -> None:
    problems = [dataclasses.replace(sum_problem, problem_id=f"p{n}") for n in range(3)]
    scores = [ungraded_score(problem, f"It rains, {problem.problem_id}.") for problem in problems]
    rows = [
        judged(score, (dataclasses.replace(score.completion, role="judge", text="8"),))
        for score in scores[:2]
    ]
    lost = Rejection(problem_id="p2", stage="judgements", reason="engine_died", detail="")

    def unit(stage: str, rows: list[StudentScore], *lost: Rejection) -> Receipt:
        name = UnitName(stage=stage, stage_key="k", unit="sums-000000", group="sums")
        return write_unit(tmp_path, name, rows, StudentScore, lost)

    judgements = unit("judgements", rows, lost)
    others = [dataclasses.replace(scores[0], text="It snows."), *scores[1:]]
    for made_of, is_theirs in ((scores, True), (others, False), (scores[:1], False)):
        receipts = [unit("scores", made_of), judgements]
        units = {(receipt.stage, receipt.unit): receipt for receipt in receipts}
        ledger = Ledger(run_dir=tmp_path, writable=False, units=units)
        assert follows_from_scores(ledger, judgements) is is_theirs
    graded = dataclasses.replace(scores[0], outcome="correct", judgement=rows[0].judgement)
    wrong = unit("judgements", [graded, rows[1]], lost)
    units = {(r.stage, r.unit): r for r in (unit("scores", scores), wrong)}
    assert not follows_from_scores(Ledger(run_dir=tmp_path, writable=False, units=units), wrong)
