"""Whole runs whose students are cut short: forced endings from the engine to `orca2 verify`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records, write_records
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.decision import summarise
from ray_jobs.evaluation import score_model
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import Call, FinishedRun, quiet, write_run_config
from tests.provenance.test_verify import findings_of_changed_score, rewrite_ledger
from tests.ray_jobs.regrading.test_regrade import EVALUATION
from tests.ray_jobs.test_pipeline import dataset_bytes

pytestmark = pytest.mark.usefixtures("local_ray")

SECTIONS = """
[scoring]
max_tokens = 16
retry_max_tokens = 16
answer_max_tokens = 4
[evaluation]
max_tokens = 16
"""


@pytest.fixture(scope="module")
def forced(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> FinishedRun:
    """A whole race of a student that is cut short, and its evaluation."""
    folder = tmp_path_factory.mktemp("forced")
    file = write_run_config(folder, chatml_dir, sections=SECTIONS + EVALUATION)
    shutil.copy(folder / "sums.jsonl", folder / "held_out.jsonl")
    config = load_config(file)
    with open_run(config, quiet) as run:
        run_all(run)
        score_model(run, "student")
    return FinishedRun(config_file=file, config=config, run_dir=Path(config.run_dir))


def scores_of(ledger: Ledger, stage: str = "scores") -> list[StudentScore]:
    return committed_rows(ledger, stage, StudentScore)


def test_a_run_of_a_student_that_is_cut_short_is_whole(forced: FinishedRun) -> None:
    found = verify(forced.run_dir)
    assert (found.findings, found.notes) == ([], [])
    for stage in ("scores", "evaluation"):
        scores = scores_of(read_ledger(forced.run_dir), stage)
        kinds = {(bool(s.ending), s.outcome in ("correct", "incorrect")) for s in scores}
        assert kinds >= {(False, True), (True, True), (True, False)}, stage
        assert all(s.ending for s in scores if s.outcome in ("unparsed", "truncated"))


def test_selections_count_forced_answers_and_their_tokens(forced: FinishedRun) -> None:
    ledger = read_ledger(forced.run_dir)
    scores = scores_of(ledger)
    selections = committed_rows(ledger, "selections", Selection)
    for selection in selections:
        for summary in selection.summaries:
            cells = [
                s for s in scores if (s.task, s.strategy) == (selection.group, summary.strategy)
            ]
            again = summarise(summary.strategy, cells)
            assert summary.num_forced == again.num_forced == sum(s.is_forced for s in cells)
            assert summary.mean_completion_tokens == again.mean_completion_tokens
    assert sum(row.num_forced for each in selections for row in each.summaries)
    counted = sum(receipt.counts["completion_tokens"] for receipt in ledger.committed("scores"))
    assert counted == sum(score.num_answer_tokens for score in scores)


def test_no_training_row_holds_an_ending(forced: FinishedRun) -> None:
    rationales = committed_rows(read_ledger(forced.run_dir), "rationales", Rationale)
    assert rationales and all(rationale.completions == () for rationale in rationales)


def test_evaluation_gives_accuracy_with_and_without_forced_answers(
    forced: FinishedRun, orca2: Call
) -> None:
    code, out, err = orca2("evaluate", forced.config_file)
    assert code == 0, err
    assert "forced answers counted as wrong" in " ".join(out.split())
    scores = scores_of(read_ledger(forced.run_dir), "evaluation")
    [found] = [
        each
        for each in evaluations(read_ledger(forced.run_dir))[0]
        if (each.task, each.message) == ("sums", "cautious")
    ]
    right = [score for score in scores if score.outcome == "correct"]
    own = [score for score in right if not score.is_forced]
    assert found.mean == len(right) / len(scores)
    assert found.unforced == len(own) / len(scores)
    code, out, err = orca2("status", forced.run_dir)
    assert code == 0 and "forced" in out


@pytest.mark.slow
def test_a_race_with_endings_that_is_interrupted_ends_as_one_that_is_not(
    forced: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    sets = (f"run_dir={run_dir}",)
    stops = 3

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if receipt.stage == "scores":
                raise KeyboardInterrupt

        yield advance

    for _ in range(stops):
        with (
            pytest.raises(KeyboardInterrupt),
            open_run(load_config(forced.config_file, sets), track) as run,
        ):
            run_all(run)
    with open_run(load_config(forced.config_file, sets), quiet) as run:
        run_all(run)
    ours, theirs = read_ledger(run_dir), read_ledger(forced.run_dir)
    for stage in ("scores", "selections", "rationales", "examples"):
        record = RECORDS[stage]
        assert committed_rows(ours, stage, record) == committed_rows(theirs, stage, record)
    assert dataset_bytes(run_dir) == dataset_bytes(forced.run_dir)
    assert verify(run_dir).findings == []


def test_a_regraded_run_keeps_its_endings_and_asks_no_engine(
    forced: FinishedRun, tmp_path: Path, orca2: Call
) -> None:
    run_dir = tmp_path / "again"
    # A config that says nothing takes what the source recorded.
    code, out, err = orca2(
        "regrade", forced.config_file, "--set", f"run_dir={run_dir}", "--from", forced.run_dir
    )
    assert code == 0, out + err
    ours, theirs = read_ledger(run_dir), read_ledger(forced.run_dir)
    for stage in ("scores", "evaluation"):
        assert scores_of(ours, stage) == scores_of(theirs, stage)
    assert verify(run_dir).findings == []


def test_a_run_without_endings_stays_so_when_it_is_resumed_forked_or_regraded(
    forced: FinishedRun, tmp_path: Path, orca2: Call
) -> None:
    silent, new = tmp_path / "silent", tmp_path / "new"
    file = forced.config_file
    code, out, err = orca2(
        "run", file, "--set", f"run_dir={silent}", "--set", "scoring.ask_again=none"
    )
    assert code == 0, out + err
    lines = (silent / "ledger.jsonl").read_bytes()
    code, out, err = orca2("run", file, "--set", f"run_dir={silent}")
    assert code == 0, out + err
    assert (silent / "ledger.jsonl").read_bytes() == lines
    assert not any(score.ending for score in scores_of(read_ledger(silent)))
    code, out, err = orca2("run", file, "--set", f"run_dir={new}", "--fork", silent)
    assert code == 0 and "forked problems, scores, selections" in err, out + err
    other = ["--set", "scoring.ask_again=answer"]
    code, out, err = orca2("run", file, "--set", f"run_dir={silent}", *other)
    assert (code == 2 and "ask_again" in err + out) or "endings" in err + out
    found = [*verify(silent).findings, *verify(new).findings]
    assert found == []


Change = Callable[[StudentScore], StudentScore]


def ended(**values: object) -> Change:
    def change(score: StudentScore) -> StudentScore:
        ending = dataclasses.replace(score.ending[0], **values)  # type: ignore[arg-type]
        return dataclasses.replace(score, ending=(ending,))

    return change


DAMAGED: dict[str, tuple[Change, str]] = {
    "of another problem": (ended(problem_id="sums/train/none"), "ending of another answer"),
    "of another strategy": (ended(strategy="none"), "ending of another answer"),
    "of another role": (ended(role="teacher"), "ending of another answer"),
    "of an earlier call": (ended(call=0), "ending of another answer"),
    "of a second attempt": (ended(attempt=1), "ending of another answer"),
    "with another prompt": (ended(num_prompt_tokens=7), "prompt tokens"),
    "twice": (lambda s: dataclasses.replace(s, ending=s.ending * 2), "2 forced endings"),
    "too long": (ended(num_completion_tokens=5), "longer than answer_max_tokens"),
    "with another text": (ended(text=" 4711"), "does not follow"),
    "unread": (lambda s: dataclasses.replace(s, ending_is_unread=True), "does not follow"),
    "with another verdict": (
        lambda s: dataclasses.replace(s, outcome="incorrect", score=0.0),
        "does not follow",
    ),
    "taken away": (lambda s: dataclasses.replace(s, ending=(), ending_is_unread=True), "holds 0"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_an_ending_that_is_not_its_cells_is_found(
    forced: FinishedRun, tmp_path: Path, name: str
) -> None:
    change, words = DAMAGED[name]

    def is_wanted(score: StudentScore) -> bool:
        return score.is_forced and score.outcome == "correct"

    found = findings_of_changed_score(forced.run_dir, tmp_path / "run", is_wanted, change)
    assert any(words in finding for finding in found), found


def test_an_ending_beside_a_text_that_decides_is_found(forced: FinishedRun, tmp_path: Path) -> None:
    one = next(score for score in scores_of(read_ledger(forced.run_dir)) if score.is_forced)

    def change(score: StudentScore) -> StudentScore:
        last = score.completion
        ending = dataclasses.replace(
            one.ending[0],
            problem_id=last.problem_id,
            strategy=last.strategy,
            num_prompt_tokens=last.num_prompt_tokens + len(last.token_ids) + 6,
        )
        return dataclasses.replace(score, ending=(ending,), ending_is_unread=True)

    found = findings_of_changed_score(
        forced.run_dir, tmp_path / "run", lambda score: not score.ending, change
    )
    assert any("its own text decides" in finding for finding in found), found


def test_an_ending_in_a_run_that_asked_for_none_is_found(
    forced: FinishedRun, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(forced.run_dir, tmp_path / "run"))
    config = run_dir / "config.json"
    body = json.loads(config.read_text())
    del body["stages"]["scores"]["answer_max_tokens"]
    config.write_text(json.dumps(body))
    assert any("asked for none" in finding for finding in verify(run_dir).findings)


def test_a_rationale_that_is_a_cell_with_its_ending_is_found(
    forced: FinishedRun, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(forced.run_dir, tmp_path / "run"))
    ledger = read_ledger(run_dir)
    ended_cells = {s.problem_id: s for s in scores_of(ledger) if s.is_forced and s.text.strip()}
    receipt, rows, place = next(
        (receipt, rows, place)
        for receipt in ledger.committed("rationales")
        for rows in [read_records(run_dir, receipt.accepted, Rationale)]
        for place, row in enumerate(rows)
        if row.problem_id in ended_cells
    )
    score = ended_cells[rows[place].problem_id]
    text = f"{score.text}\n\nAnswer:{score.ending[0].text}"
    rows[place] = dataclasses.replace(rows[place], text=text)
    entry = write_records(run_dir, receipt.accepted.path, rows, Rationale)
    new = dataclasses.replace(receipt, files=(entry, *receipt.files[1:]))
    rewrite_ledger(run_dir, lambda all_: [new if r == receipt else r for r in all_])
    found = verify(run_dir).findings
    assert any("is taught a forced ending" in finding for finding in found), found
