"""Held-out open tasks: a model answers them, then the judge reads its answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca2_gen.cli import cli
from orca2_gen.config.load import load_config
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.evaluations.sample_logs import write_sample_logs
from orca2_gen.provenance.recover import recover
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rejection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from ray_jobs.engines import placement
from ray_jobs.evaluation import evaluate_model
from ray_jobs.regrading.regrade import regrade
from ray_jobs.run import open_run
from tests.conftest import FinishedRun, quiet, source_of, write_run_config
from tests.faults.faulty import FaultyActor, happened, plant
from tests.provenance.test_lineage import change_first_row
from tests.ray_jobs.test_judging import JUDGE_SEQS, counted_judges

pytestmark = pytest.mark.usefixtures("local_ray")

NUM_WHYS, NUM_FACTS = 9, 5


def write_held_out_config(folder: Path, tokenizer: Path, judge: str = "") -> Path:
    """The config of the tests' small run with an open and a numeric held-out task, and a judge."""
    sections = f"""
[judge]
engine = "scripted"
tokenizer = "{tokenizer}"
max_num_seqs = {JUDGE_SEQS}
{judge}
[[evaluation.tasks]]
name = "whys"
format = "jsonl"
path = "whys.jsonl"
answer_type = "open"
[[evaluation.tasks]]
name = "facts"
format = "jsonl"
path = "facts.jsonl"
answer_type = "numeric"
"""
    file = write_run_config(folder, tokenizer, sections=sections)
    rows: dict[str, list[dict[str, str]]] = {
        "whys": [
            {"question": f"Why is lake {n} deep?", "answer": f"A glacier dug valley {n}."}
            for n in range(NUM_WHYS)
        ],
        "facts": [{"question": f"How deep is lake {n}?", "answer": str(n)} for n in range(5)],
    }
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return file


def evaluated(config_file: Path, overrides: Sequence[str] = ()) -> FinishedRun:
    """The run of a config whose student was evaluated."""
    config = load_config(config_file, tuple(overrides))
    with open_run(config, quiet) as run:
        evaluate_model(run, "student")
    return FinishedRun(config_file=config_file, config=config, run_dir=Path(config.run_dir))


@pytest.fixture(scope="module")
def judged_and_judges(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> tuple[FinishedRun, int]:
    """The run and the number of judges that it started."""
    file = write_held_out_config(tmp_path_factory.mktemp("held_out"), chatml_dir)
    with counted_judges() as judges:
        run = evaluated(file)
    return run, len(judges)


@pytest.fixture(scope="module")
def judged(judged_and_judges: tuple[FinishedRun, int]) -> FinishedRun:
    return judged_and_judges[0]


def scores(ledger: Ledger, stage: str, task: str) -> list[StudentScore]:
    return [
        score
        for receipt in ledger.committed(stage)
        if receipt.group == task
        for score in read_records(ledger.run_dir, receipt.accepted, StudentScore)
    ]


def test_open_answers_are_judged_once_and_others_never(
    judged_and_judges: tuple[FinishedRun, int],
) -> None:
    run, num_judges = judged_and_judges
    ledger = read_ledger(run.run_dir)
    num_messages = len(run.config.evaluation.messages)
    found = scores(ledger, "evaluation_judgements", "whys")
    assert len(found) == NUM_WHYS * num_messages
    assert {score.outcome for score in scores(ledger, "evaluation", "whys")} == {"ungraded"}
    assert all(len(score.judgement) == 1 for score in found)
    assert {score.outcome for score in found} <= {"correct", "incorrect"}
    assert not scores(ledger, "evaluation_judgements", "facts")
    assert run.config.judge is not None and num_judges == run.config.judge.replicas
    assert not verify(run.run_dir).findings


def test_accuracies_are_means_of_the_judges_scores(judged: FinishedRun) -> None:
    ledger = read_ledger(judged.run_dir)
    accuracies, _ = evaluations(ledger)
    by_message: dict[str, list[float]] = {}
    for score in scores(ledger, "evaluation_judgements", "whys"):
        by_message.setdefault(score.strategy, []).append(score.score)
    found = {each.message: each for each in accuracies if each.task == "whys"}
    assert found.keys() == by_message.keys() and found
    for message, values in by_message.items():
        assert found[message].mean == pytest.approx(sum(values) / len(values))
        assert (found[message].num, found[message].of, found[message].lost) == (9, 9, 0)
        assert found[message].ungraded == 0.0


def test_answers_that_no_judge_has_read_count_as_not_answered(
    judged: FinishedRun, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(judged.run_dir, tmp_path / "copy"))
    lines = (copy / "ledger.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"evaluation_judgements"' not in line]
    assert len(kept) < len(lines)
    (copy / "ledger.jsonl").write_text("".join(kept))
    (copy / "ledger.tip.json").unlink()
    ledger = read_ledger(copy)
    accuracies, _ = evaluations(ledger)
    assert {each.task for each in accuracies if not each.is_macro} == {"facts"}
    assert any("no judge has read" in note for note in verify(copy).notes)
    with counted_judges() as judges:
        again = evaluated(judged.config_file, [f"run_dir={copy}"])
    assert len(judges) == 1
    assert evaluations(read_ledger(again.run_dir)) == evaluations(read_ledger(judged.run_dir))


@pytest.mark.slow
def test_another_judge_is_another_evaluation(judged: FinishedRun, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(judged.run_dir, tmp_path / "copy"))
    other = [f"run_dir={copy}", "judge.accuracy.direct_answer=0.3"]
    evaluated(judged.config_file, other)
    accuracies, differences = evaluations(read_ledger(copy))
    assert {each.model for each in accuracies} == {"student 1", "student 2"}
    assert not differences and not verify(copy).findings
    # A later model is compared with the first that the same judge has judged.
    with open_run(load_config(judged.config_file, other), quiet) as run:
        evaluate_model(run, "later")
    _, differences = evaluations(read_ledger(copy))
    assert {(each.first, each.second) for each in differences} == {("student 2", "later")}
    assert {each.mean for each in differences} == {0.0}


def test_a_judge_that_dies_loses_no_answer(
    judged: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    whole = scores(read_ledger(judged.run_dir), "evaluation_judgements", "whys")
    run_dir = tmp_path / "run"
    plant(run_dir, die_on={f"judge|{whole[3].problem_id}": 1})
    evaluated(judged.config_file, ["dispatch.backoff_seconds=0.1", f"run_dir={run_dir}"])
    assert happened(run_dir, "die_on") == 1
    assert scores(read_ledger(run_dir), "evaluation_judgements", "whys") == whole


@pytest.mark.slow
def test_an_answer_that_kills_every_judge_is_lost_by_name_to_each_model(
    judged: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    whole = scores(read_ledger(judged.run_dir), "evaluation_judgements", "whys")
    run_dir, poison = tmp_path / "run", whole[3].problem_id
    plant(run_dir, die_on={f"judge|{poison}": -1})
    settings = ["dispatch.backoff_seconds=0.1", f"run_dir={run_dir}"]
    evaluated(judged.config_file, settings)
    ledger = read_ledger(run_dir)
    found = scores(ledger, "evaluation_judgements", "whys")
    assert found == [score for score in whole if score.problem_id != poison]
    accuracies, _ = evaluations(ledger)
    lost = {(each.num, each.of, each.lost) for each in accuracies if each.task == "whys"}
    assert lost == {(NUM_WHYS - 1, NUM_WHYS, 1)}
    with open_run(load_config(judged.config_file, settings), quiet) as run:
        evaluate_model(run, "other")
    assert not verify(run_dir).findings


def test_a_changed_verdict_is_found(judged: FinishedRun, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(judged.run_dir, tmp_path / "copy"))

    def praised(score: StudentScore) -> StudentScore:
        return dataclasses.replace(score, outcome="correct", score=0.77)

    change_first_row(copy, "evaluation_judgements", StudentScore, praised)
    findings = verify(copy).findings
    assert any("does not follow from its score and reply" in finding for finding in findings)


def test_a_lost_ledger_is_made_again_with_its_judgements(
    judged: FinishedRun, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(judged.run_dir, tmp_path / "copy"))
    (copy / "ledger.jsonl").write_bytes(b"\0" * 100)
    recover(copy)
    assert evaluations(read_ledger(copy)) == evaluations(read_ledger(judged.run_dir))
    assert not verify(copy).findings


def test_logs_hold_the_judges_replies(judged: FinishedRun, tmp_path: Path) -> None:
    [reply, *_] = [
        score.judgement[0].text
        for score in scores(read_ledger(judged.run_dir), "evaluation_judgements", "whys")
    ]
    for log_format in ("inspect", "lm-eval"):
        files = write_sample_logs(judged.run_dir, tmp_path / log_format, log_format)  # type: ignore[arg-type]
        assert any(json.dumps(reply)[1:-1] in file.read_text() for file in files)


def test_regrading_reads_the_stored_replies_again(judged: FinishedRun, tmp_path: Path) -> None:
    again = load_config(judged.config_file, (f"run_dir={tmp_path / 'again'}",))
    source = source_of(judged.run_dir, again)
    with counted_judges() as judges, open_run(again, quiet) as run:
        regrade(run, source)
    assert not judges
    assert evaluations(read_ledger(tmp_path / "again")) == evaluations(read_ledger(judged.run_dir))
    assert not verify(tmp_path / "again").findings


def test_an_open_held_out_task_needs_a_judge(tmp_path: Path, chatml_dir: Path) -> None:
    file = write_held_out_config(tmp_path, chatml_dir)
    text = file.read_text()
    start = text.index("[judge]")
    file.write_text(text[:start] + text[text.index("[[evaluation.tasks]]", start) :])
    with pytest.raises(ValueError, match=r"evaluation\.tasks: 'whys' is open, so evaluation needs"):
        load_config(file)


def test_a_problem_too_long_for_the_judge_is_rejected_by_name(
    tmp_path: Path, chatml_dir: Path
) -> None:
    file = write_held_out_config(tmp_path, chatml_dir, judge="max_model_len = 2300")
    long = {"question": "Why? " + "word " * 100, "answer": "Because."}
    with (tmp_path / "whys.jsonl").open("a") as out:
        out.write(json.dumps(long) + "\n")
    run = evaluated(file)
    ledger = read_ledger(run.run_dir)
    receipts = [r for r in ledger.committed("evaluation_judgements") if r.group == "whys"]
    assert [r.counts["rejected"] for r in receipts] == [0, 1]
    rejections = receipts[1].rejections
    assert rejections is not None
    [row] = read_records(ledger.run_dir, rejections, Rejection)
    assert row.reason == "prompt_too_long"
    assert row.detail.startswith("judge: ") and "lower judging.max_tokens" in row.detail
    accuracies, _ = evaluations(ledger)
    lost = {(each.num, each.of, each.lost) for each in accuracies if each.task == "whys"}
    assert lost == {(NUM_WHYS, NUM_WHYS + 1, 1)}
    # Another judge, with room for it, answers for all of them; the problems stay as they are.
    evaluated(file, ["judge.max_model_len=4096"])
    accuracies, differences = evaluations(read_ledger(run.run_dir))
    found = {each.model: each.num for each in accuracies if each.task == "whys"}
    assert found == {"student 1": NUM_WHYS, "student 2": NUM_WHYS + 1}
    assert not differences and not verify(run.run_dir).findings


def test_the_command_judges_and_prints_accuracies(judged: FinishedRun) -> None:
    made = CliRunner().invoke(cli, ["evaluate", str(judged.config_file)])
    assert made.exit_code == 0, made.output
    assert "whys" in made.output
