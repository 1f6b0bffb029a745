"""Open answers, judged by a third model between scoring and selecting."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records, write_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import STAGES
from orca2_gen.selection.blocks import Group
from orca2_gen.selection.decision import next_step
from ray_jobs import model_engines
from ray_jobs.dispatch.unit_receipts import REGRADED
from ray_jobs.engines import placement
from ray_jobs.pipeline import judge_answers, read_tasks, run_all, score_student, select_strategies
from ray_jobs.regrading.regrade import Regrading, regrade
from ray_jobs.run import open_run
from tests.conftest import FinishedRun, forked, keys_of, quiet, rule_of, source_of, write_run_config
from tests.faults.faulty import FaultyActor, happened, plant
from tests.faults.oracle import assert_whole, committed
from tests.provenance.test_lineage import change_first_row
from tests.provenance.test_verify import rewrite_ledger
from tests.ray_jobs.test_pipeline import dataset_bytes, run_config

pytestmark = pytest.mark.usefixtures("local_ray")

NUM_WHYS, NUM_FACTS = 14, 8
JUDGED = "world"
"""A category with open problems and others; `sums` and `letters` have none."""
JUDGE_SEQS = 7
"""Setting that marks the judge among engines that start."""


def write_open_config(folder: Path, tokenizer: Path) -> Path:
    """The config of the tests' small run as a race by category, with a judge.

    It has an open task and a numeric one in the same category.
    """
    sections = f"""
[judge]
engine = "scripted"
tokenizer = "{tokenizer}"
max_num_seqs = {JUDGE_SEQS}
[[tasks]]
name = "whys"
format = "jsonl"
path = "whys.jsonl"
answer_type = "open"
[[tasks]]
name = "facts"
format = "jsonl"
path = "facts.jsonl"
answer_type = "numeric"
"""
    selection = 'select_by = "category"\nmethod = "race"\ncautious_arm = true'
    file = write_run_config(folder, tokenizer, sections=sections, selection=selection)
    rows: dict[str, list[dict[str, str]]] = {
        "whys": [
            {"question": f"Why does river {n} run?", "answer": f"Rain of hill {n} feeds it."}
            for n in range(NUM_WHYS)
        ],
        "facts": [{"question": f"How long is river {n}?", "answer": str(n)} for n in range(8)],
    }
    for name, found in rows.items():
        lines = [json.dumps(row | {"category": JUDGED}) for row in found]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def counted_judges() -> Iterator[list[int]]:
    """A context with a list that grows by one with every judge that starts inside."""
    started: list[int] = []

    def start_engine(config: Any, *args: Any, **arguments: Any) -> Any:
        started.extend([config.max_num_seqs] * (config.max_num_seqs == JUDGE_SEQS))
        return placement.start_engine(config, *args, **arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_engines, "start_engine", start_engine)
        yield started


@pytest.fixture(scope="module")
def judged_run_and_judges(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> tuple[FinishedRun, int]:
    """The run and the number of judges that it started."""
    file = write_open_config(tmp_path_factory.mktemp("judged"), chatml_dir)
    config = load_config(file)
    with counted_judges() as judges, open_run(config, quiet) as run:
        run_all(run)
    finished = FinishedRun(config_file=file, config=config, run_dir=Path(config.run_dir))
    return finished, len(judges)


@pytest.fixture(scope="module")
def judged_run(judged_run_and_judges: tuple[FinishedRun, int]) -> FinishedRun:
    return judged_run_and_judges[0]


@pytest.fixture
def judged_copy(judged_run: FinishedRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged_run.run_dir, tmp_path / "copy"))


def records(ledger: Ledger, stage: str, record: type[Any]) -> list[Any]:
    return [
        row
        for receipt in ledger.committed(stage)
        for row in read_records(ledger.run_dir, receipt.accepted, record)
    ]


def cells(ledger: Ledger, stage: str) -> dict[tuple[str, str], StudentScore]:
    found = records(ledger, stage, StudentScore)
    by_cell = {(score.problem_id, score.strategy): score for score in found}
    assert len(by_cell) == len(found)
    return by_cell


def test_a_judged_run_verifies_and_counts_its_judgements_by_id(judged_run: FinishedRun) -> None:
    found = verify(judged_run.run_dir)
    assert (found.findings, found.notes) == ([], [])
    ledger = read_ledger(judged_run.run_dir)
    [row] = [row for row in found.table if row[0] == "judgements"]
    num = sum(r.counts["accepted"] for r in ledger.committed("scores") if r.group == JUDGED)
    assert row == ("judgements", num, num, 0, 0)


def test_every_cell_of_a_judged_group_has_one_judgement_and_only_open_answers_were_asked(
    judged_run: FinishedRun,
) -> None:
    ledger = read_ledger(judged_run.run_dir)
    problems = {p.problem_id: p for p in records(ledger, "problems", Problem)}
    scores, judgements = cells(ledger, "scores"), cells(ledger, "judgements")
    assert set(judgements) == {
        cell for cell in scores if problems[cell[0]].task in ("whys", "facts")
    }
    kinds = {problems[problem_id].answer_type for problem_id, _ in judgements}
    assert kinds == {"open", "numeric"}, "the group must hold both for this to mean anything"
    for cell, row in judgements.items():
        problem = problems[cell[0]]
        if problem.answer_type != "open":
            assert row == scores[cell]
            continue
        assert scores[cell].outcome == "ungraded"
        [reply] = row.judgement
        assert (reply.problem_id, reply.role, reply.strategy) == (cell[0], "judge", cell[1])
        is_right = problem.target in row.text
        assert (row.outcome, row.score) == (("correct", 1.0) if is_right else ("incorrect", 0.0))
    assert {row.outcome for row in judgements.values()} == {"correct", "incorrect"}


def test_judged_groups_use_the_full_grid_and_follow_from_judgements_and_others_race(
    judged_run: FinishedRun,
) -> None:
    ledger = read_ledger(judged_run.run_dir)
    chosen = {s.group: s for s in records(ledger, "selections", Selection)}
    assert {name: s.method for name, s in chosen.items()} == {
        JUDGED: "full_grid",
        "sums": "race",
        "letters": "race",
    }
    group = Group(name=JUDGED, num_problems=NUM_WHYS + NUM_FACTS, num_groups=3, is_judged=True)
    rule = rule_of(judged_run.config).of(group)
    blocks = {
        index: read_records(judged_run.run_dir, receipt.accepted, StudentScore)
        for index, receipt in enumerate(ledger.committed("judgements"))
    }
    assert next_step(group, rule, blocks) == chosen[JUDGED]
    assert all(s.num_scored == rule.scored_problems for s in chosen[JUDGED].summaries)
    assert not any(s.num_ungraded for s in chosen[JUDGED].summaries)


def test_open_problems_are_taught_unverified(judged_run: FinishedRun) -> None:
    ledger = read_ledger(judged_run.run_dir)
    taught = [r for r in records(ledger, "rationales", Rationale) if r.task == "whys"]
    assert len(taught) == NUM_WHYS
    assert {rationale.attempt for rationale in taught} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", ["scores", "judgements"])
def test_a_run_that_stopped_between_scores_and_selections_ends_with_the_same_rows(
    judged_run: FinishedRun, tmp_path: Path, stop_after: str
) -> None:
    override = f"run_dir={tmp_path / 'run'}"
    with open_run(load_config(judged_run.config_file, [override]), quiet) as run:
        read_tasks(run)
        score_student(run)
        select_strategies(run)  # groups without open problems; the other is undecided
        if stop_after == "judgements":
            judge_answers(run)
        before = dict(run.ledger.units)
    assert {r.group for r in before.values() if r.stage == "selections"} == {"sums", "letters"}
    assert verify(run.run_dir).findings == []
    run_dir, _ = run_config(judged_run.config_file, override)
    assert before.items() <= read_ledger(run_dir).units.items()
    assert_whole(run_dir, judged_run.run_dir)
    assert dataset_bytes(run_dir) == dataset_bytes(judged_run.run_dir)


def test_a_run_with_open_answers_is_phased_and_says_so(
    judged_run: FinishedRun, tmp_path: Path
) -> None:
    sets = [f"run_dir={tmp_path / 'run'}", "dispatch.schedule=overlapped"]
    said: list[str] = []
    with open_run(load_config(judged_run.config_file, sets), quiet, said.append) as run:
        run_all(run)
    assert [line for line in said if line.startswith("schedule: phased")]
    assert dataset_bytes(run.run_dir) == dataset_bytes(judged_run.run_dir)


def selected(file: Path, *overrides: str) -> Ledger:
    """The ledger of a run that has selected and taught nothing."""
    with open_run(load_config(file, overrides), quiet) as run:
        read_tasks(run)
        score_student(run)
        judge_answers(run)
        select_strategies(run)
    return read_ledger(run.run_dir)


def test_one_judge_is_started_where_something_is_to_be_judged(
    judged_run_and_judges: tuple[FinishedRun, int],
) -> None:
    assert judged_run_and_judges[1] == 1


@pytest.mark.parametrize(
    "override",
    [
        "tasks.2.answer_type=exact",
        "selection.policy=random",
        "selection.policy=fixed:step_by_step",
    ],
)
def test_no_judge_is_started_where_nothing_is_to_be_judged(
    judged_run: FinishedRun, tmp_path: Path, override: str
) -> None:
    with counted_judges() as judges:
        ledger = selected(judged_run.config_file, f"run_dir={tmp_path / 'run'}", override)
    assert judges == [] == ledger.committed("judgements")
    assert len(ledger.committed("selections")) == 3
    assert verify(ledger.run_dir).findings == []


def test_the_teachers_own_answers_are_judged_where_the_policy_looks_at_them(
    judged_run: FinishedRun, tmp_path: Path
) -> None:
    ledger = selected(
        judged_run.config_file, f"run_dir={tmp_path / 'run'}", "selection.policy=teacher_best"
    )
    assert {row.role for row in records(ledger, "judgements", StudentScore)} == {"teacher"}
    assert len(ledger.committed("selections")) == 3
    assert verify(ledger.run_dir).findings == []


@pytest.mark.slow
def test_an_answer_that_kills_every_judge_is_lost_under_all_strategies_and_its_problem_taught(
    judged_run: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    judgements = cells(read_ledger(judged_run.run_dir), "judgements")
    poison = next(problem_id for problem_id, _ in judgements if problem_id.startswith("whys"))
    run_dir = tmp_path / "run"
    plant(run_dir, die_on={f"judge|{poison}": -1})
    quick = ("dispatch.backoff_seconds=0.1", f"run_dir={run_dir}")
    run_config(judged_run.config_file, *quick)
    assert happened(run_dir, "die_on") >= 2
    found = verify(run_dir)
    assert (found.findings, found.notes) == ([], [])
    ledger = read_ledger(run_dir)
    kept = cells(ledger, "judgements")
    assert kept == {cell: row for cell, row in judgements.items() if cell[0] != poison}
    num_lost = len(judgements) - len(kept)
    assert num_lost == 7  # six strategies and the cautious message
    [row] = [row for row in found.table if row[0] == "judgements"]
    assert row == ("judgements", len(judgements), len(kept), num_lost, 0)
    assert poison in {r.problem_id for r in records(ledger, "rationales", Rationale)}
    config = load_config(judged_run.config_file, [f"run_dir={tmp_path / 'again'}"])
    again = regraded(config, run_dir)
    num = len(ledger.committed("judgements"))
    assert f"judgements: {num} of {num} units made from the judge's stored replies" in again.lines
    assert "no winner differs" in again.lines
    regraded_ledger = read_ledger(tmp_path / "again")
    assert cells(regraded_ledger, "judgements") == kept
    assert verify(tmp_path / "again").findings == []


@pytest.mark.slow
def test_an_engine_that_dies_once_while_judging_costs_no_row(
    judged_run: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    judgements = cells(read_ledger(judged_run.run_dir), "judgements")
    victim = next(problem_id for problem_id, _ in judgements if problem_id.startswith("whys"))
    run_dir = tmp_path / "run"
    plant(run_dir, die_on={f"judge|{victim}": 1})
    run_config(judged_run.config_file, "dispatch.backoff_seconds=0.1", f"run_dir={run_dir}")
    assert happened(run_dir, "die_on") == 1
    assert_whole(run_dir, judged_run.run_dir)
    assert committed(run_dir) == committed(judged_run.run_dir)


def test_stored_replies_are_read_again_with_no_engine_and_the_run_ends_with_the_same_rows(
    judged_run: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sets = [f"run_dir={tmp_path / 'run'}"]
    config = load_config(judged_run.config_file, sets)
    with monkeypatch.context() as patched:
        patched.setattr(model_engines, "start_engine", None)  # any start of an engine fails
        found = regraded(config, judged_run.run_dir)
    before, after = read_ledger(judged_run.run_dir), read_ledger(Path(config.run_dir))
    assert cells(after, "judgements") == cells(before, "judgements")
    assert records(after, "selections", Selection) == records(before, "selections", Selection)
    assert "no winner differs" in found.lines
    of_judge = {key: c for key, c in found.changes.items() if key[0] == "judgements"}
    assert {task for _, task, _ in of_judge} == {"whys", "facts"}
    assert not any(c.now_correct or c.now_not_correct or c.other for c in of_judge.values())
    assert regraded(config, judged_run.run_dir) == found
    run_dir, _ = run_config(judged_run.config_file, *sets)
    assert dataset_bytes(run_dir) == dataset_bytes(judged_run.run_dir)
    assert all(REGRADED in r.counts for r in read_ledger(run_dir).committed("judgements"))
    whole = verify(run_dir)
    assert (whole.findings, whole.notes) == ([], [])


def test_another_judge_is_left_to_a_run(judged_run: FinishedRun, tmp_path: Path) -> None:
    sets = [f"run_dir={tmp_path / 'run'}", "judge.accuracy.step_by_step=0.1"]
    config = load_config(judged_run.config_file, sets)
    found = regraded(config, judged_run.run_dir)
    assert any("the judge is another one" in line for line in found.lines)
    assert any(line.startswith(f"open: {JUDGED} (it was ") for line in found.lines)
    ledger = read_ledger(Path(config.run_dir))
    assert ledger.committed("judgements") == []
    assert {r.group for r in ledger.committed("selections")} == {"sums", "letters"}


def test_a_judge_that_reads_other_lengths_is_refused(
    judged_run: FinishedRun, tmp_path: Path
) -> None:
    sets = [f"run_dir={tmp_path / 'run'}", "judging.max_tokens=99"]
    with pytest.raises(ValueError, match=r"made differently: problems\.rooms\.judge"):
        source_of(judged_run.run_dir, load_config(judged_run.config_file, sets))


def regraded(config: Config, source: Path) -> Regrading:
    with open_run(config, quiet) as run:
        return regrade(run, source_of(source, config))


def with_reply(row: StudentScore, **changes: Any) -> StudentScore:
    return dataclasses.replace(
        row, judgement=tuple(dataclasses.replace(reply, **changes) for reply in row.judgement)
    )


Change = Callable[[StudentScore], StudentScore]

CHANGES: dict[str, tuple[Change, str]] = {
    "another score": (
        lambda row: dataclasses.replace(row, score=1.0 - row.score),
        "does not follow from its score and reply",
    ),
    "another reply": (
        lambda row: with_reply(row, text="So so.\nScore: 3"),
        "does not follow from its score and reply",
    ),
    "another answer's text": (
        lambda row: dataclasses.replace(row, text=row.text + " And more."),
        "does not follow from its score and reply",
    ),
    "fewer tokens": (
        lambda row: dataclasses.replace(row, num_completion_tokens=1),
        "does not follow from its score and reply",
    ),
    "a reply about another strategy": (
        lambda row: with_reply(row, strategy="cautious"),
        "holds a reply about something else",
    ),
    "the student's own voice": (
        lambda row: with_reply(row, role="student"),
        "holds a reply about something else",
    ),
    "another problem": (
        lambda row: dataclasses.replace(row, problem_id="whys/train/new"),
        "came from nowhere",
    ),
}


def put_first(run_dir: Path, is_wanted: Callable[[StudentScore], bool]) -> None:
    """Sorts the first unit of judgements so that it begins with one of these rows."""
    ledger = read_ledger(run_dir)
    receipt = ledger.committed("judgements")[0]
    rows = read_records(run_dir, receipt.accepted, StudentScore)
    rows.sort(key=is_wanted, reverse=True)
    assert is_wanted(rows[0])
    entry = write_records(run_dir, receipt.accepted.path, rows, StudentScore)
    changed = dataclasses.replace(receipt, files=(entry,))
    rewrite_ledger(run_dir, lambda all_: [changed if r == receipt else r for r in all_])


@pytest.mark.parametrize("name", CHANGES)
def test_a_judgement_that_does_not_follow_is_found(judged_copy: Path, name: str) -> None:
    change, words = CHANGES[name]
    assert verify(judged_copy).findings == []
    put_first(judged_copy, lambda row: bool(row.judgement))
    [moved] = verify(judged_copy).findings
    assert "the problems that are next in its group's order" in moved
    change_first_row(judged_copy, "judgements", StudentScore, change)
    assert any(words in finding for finding in verify(judged_copy).findings if finding != moved)


def test_a_verdict_on_an_answer_that_needs_no_judge_is_found(judged_copy: Path) -> None:
    put_first(judged_copy, lambda row: not row.judgement)
    change_first_row(
        judged_copy, "judgements", StudentScore, lambda r: dataclasses.replace(r, score=0.25)
    )
    findings = verify(judged_copy).findings
    assert any("does not follow from its score and reply" in finding for finding in findings)


def test_a_scored_cell_that_was_never_judged_is_found(judged_copy: Path) -> None:
    ledger = read_ledger(judged_copy)
    receipt = ledger.committed("judgements")[0]
    rows = read_records(judged_copy, receipt.accepted, StudentScore)[1:]
    entry = write_records(judged_copy, receipt.accepted.path, rows, StudentScore)
    counts = receipt.counts | {"input": len(rows), "accepted": len(rows)}
    changed = dataclasses.replace(receipt, files=(entry,), counts=counts)
    rewrite_ledger(judged_copy, lambda all_: [changed if r == receipt else r for r in all_])
    findings = verify(judged_copy).findings
    assert any("was scored but is missing" in finding for finding in findings)


@pytest.mark.parametrize("damage", ["flip", "delete", "cut"])
def test_a_damaged_file_of_judgements_is_named(judged_copy: Path, damage: str) -> None:
    victim = sorted((judged_copy / "judgements").glob("*.arrow"))[0]
    body = bytearray(victim.read_bytes())
    body[len(body) // 2] ^= 1
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(body if damage == "flip" else victim.read_bytes()[:-1])
    assert any(victim.name in finding for finding in verify(judged_copy).findings)


def test_a_choice_that_rests_on_unjudged_scores_is_found(judged_copy: Path) -> None:
    def forget(receipts: list[Any]) -> list[Any]:
        return [receipt for receipt in receipts if receipt.stage != "judgements"]

    rewrite_ledger(judged_copy, forget)
    found = verify(judged_copy)
    words = f"{JUDGED} does not follow from its committed judgements"
    assert any(words in finding for finding in found.findings)
    assert any("some answers are still open" in note for note in found.notes)


def test_judgements_of_a_group_without_open_problems_are_found(judged_copy: Path) -> None:
    def uncount(receipts: list[Any]) -> list[Any]:
        return [
            dataclasses.replace(r, counts={k: v for k, v in r.counts.items() if k != "open"})
            for r in receipts
        ]

    rewrite_ledger(judged_copy, uncount)
    findings = verify(judged_copy).findings
    assert any("no problem of world is open" in finding for finding in findings)
    assert any("open problems, not as many as counted" in finding for finding in findings)


def test_every_stage_of_a_judged_run_is_committed(judged_run: FinishedRun) -> None:
    found = committed(judged_run.run_dir)
    assert {stage for stage in STAGES if not stage.startswith("evaluation")} == set(found)


def test_an_arm_of_an_ablation_shares_the_problems_of_a_judged_run(
    judged_run: FinishedRun, tmp_path: Path
) -> None:
    sets = [f"run_dir={tmp_path / 'fork'}", "selection.policy=random"]
    config = load_config(judged_run.config_file, sets)
    keys = keys_of(config)
    assert forked(judged_run.run_dir, Path(config.run_dir), keys) == ("problems",)
