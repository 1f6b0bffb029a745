"""Evaluations of scripted models: under which messages, of which items, by which names."""

from __future__ import annotations

import bisect
import dataclasses
import json
from pathlib import Path

import pytest

from orca2_gen.chat import load_chat
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.evaluations.about import read_about
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.lengths import plan_lengths
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, Rejection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.strategies import load_strategies
from ray_jobs import evaluation
from ray_jobs.evaluation import evaluate_model
from ray_jobs.run import open_run
from tests.conftest import Call, Write, quiet
from tests.ray_jobs.regrading.test_regrade import EVALUATION

pytestmark = pytest.mark.usefixtures("local_ray")


def held_out(folder: Path, *more: dict[str, str]) -> None:
    rows = [
        {"id": f"h{n}", "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(6)
    ]
    (folder / "held_out.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (*rows, *more))
    )


def test_a_model_is_asked_under_a_strategy_beside_the_cautious_message(
    write_config: Write, tmp_path: Path, orca2: Call
) -> None:
    file = write_config(sections=EVALUATION)
    held_out(tmp_path)
    run_dir = tmp_path / "run"
    code, _, err = orca2("evaluate", file)
    assert code == 0, err
    code, out, err = orca2("evaluate", file, "--strategy", "step_by_step", "--strategy", "empty")
    assert code == 0, err
    shown = {(each.model, each.message) for each in evaluations(read_ledger(run_dir))[0]}
    assert shown >= {("student", m) for m in ("cautious", "step_by_step", "empty")}
    assert {model for model, _ in shown} == {"student"} and "step_by_step" in out
    text = load_strategies(None).system_message("step_by_step")
    receipts = read_ledger(run_dir).committed("evaluation")
    abouts = [read_about(run_dir, "student", each.stage_key) for each in receipts]
    assert {"step_by_step": text, "empty": ""} in [each.messages for each in abouts if each]
    assert verify(run_dir).findings == []


def test_a_strategy_that_the_file_has_not_is_one_line(
    write_config: Write, tmp_path: Path, orca2: Call
) -> None:
    file = write_config(sections=EVALUATION)
    held_out(tmp_path)
    code, _, err = orca2("evaluate", file, "--strategy", "think_hard")
    assert code == 2 and "evaluation.messages: the strategies file has no 'think_hard'" in err
    assert "expected cautious, empty, direct_answer" in err


def test_a_label_names_the_model_in_files_and_tables(
    write_config: Write, tmp_path: Path, orca2: Call
) -> None:
    file = write_config(sections=EVALUATION)
    held_out(tmp_path)
    assert orca2("evaluate", file, "--label", "b/../../ase line")[0] == 0
    code, _, err = orca2("evaluate", file)
    assert code == 0, err
    models = {each.model for each in evaluations(read_ledger(tmp_path / "run"))[0]}
    assert models == {"student", "b_.._.._ase_line"}


LONG = {"id": "long", "question": " ".join(["What is 1 + 1?"] * 60), "answer": "2"}


def shortest_room(config: Config, tokenizer: Path) -> int:
    """The least max_model_len in which LONG fits with these tokens."""
    room = evaluation.evaluated_room(config)
    problem = Problem(
        problem_id="long",
        task="sums",
        question=LONG["question"],
        target="2",
        answer_type="numeric",
    )
    chat, strategies = load_chat(str(tokenizer)), load_strategies(None)

    def fits(max_model_len: int) -> bool:
        tried = dataclasses.replace(room, max_model_len=max_model_len)
        return bool(plan_lengths([problem], tried, chat, strategies, "evaluation")[0])

    return bisect.bisect_left(range(20_000), True, key=fits)


def test_rows_too_long_for_another_models_tokens_are_lost_to_it_alone_and_told(
    write_config: Write,
    tmp_path: Path,
    chatml_dir: Path,
    llama_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_config(sections=EVALUATION)
    held_out(tmp_path, LONG)
    lengths = {shortest_room(load_config(file), d): d for d in (chatml_dir, llama_dir)}
    (least, own), (_, other_dir) = sorted(lengths.items())
    sets = (f"student.max_model_len={least}", f"student.tokenizer={own}")
    config = load_config(file, sets)
    with open_run(config, quiet) as run:
        evaluate_model(run, "student")
        other = config.student.model_copy(update={"tokenizer": str(other_dir)})
        monkeypatch.setattr(evaluation, "engine_of", lambda config, model: other)
        evaluate_model(run, "other")
        problems = committed_rows(run.ledger, "evaluation_problems", Problem)
        receipts = [r for r in run.ledger.committed("evaluation") if r.unit.startswith("other-")]
        rejections = [
            row
            for receipt in receipts
            if receipt.rejections is not None
            for row in read_records(run.run_dir, receipt.rejections, Rejection)
        ]
        answered = [
            row.problem_id
            for receipt in receipts
            for row in read_records(run.run_dir, receipt.accepted, StudentScore)
        ]
    room = evaluation.evaluated_room(config)
    chat = load_chat(str(other_dir))
    kept, lost = plan_lengths(problems, room, chat, load_strategies(None), "evaluation")
    assert [row.problem_id for row in lost] == [row.problem_id for row in rejections] != []
    assert {row.reason for row in rejections} == {"prompt_too_long"}
    assert set(answered) == {row.problem_id for row in kept}
    strict = load_config(
        file, (*sets, "dispatch.max_rejection_rate=0.1", "dispatch.rejection_rows=1")
    )
    with open_run(strict, quiet) as run, pytest.raises(TooManyRejections):
        evaluate_model(run, "other")  # what was lost before counts
    accuracies, differences = evaluations(read_ledger(tmp_path / "run"))
    assert {(each.model, each.num, each.lost) for each in accuracies} == {
        ("student", 7, 0),
        ("other", 6, 1),
    }
    assert {each.num for each in differences} == {6}
    assert verify(tmp_path / "run").findings == []
