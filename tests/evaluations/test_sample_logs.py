from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.load import load_config
from orca2_gen.evaluations.about import distinct_label
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.evaluations.sample_logs import write_sample_logs
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.strategies import OWN_FILE
from ray_jobs.evaluation import evaluate_model
from ray_jobs.run import open_run
from tests.conftest import quiet, write_run_config
from tests.ray_jobs.regrading.test_regrade import EVALUATION

INSPECT = "inspect-ai==0.3.285"
"""In an environment of its own: it asks for a newer click than vLLM's pins allow."""
HELD_OUT = [
    {"id": "plain", "question": "What is 2 + 2?", "answer": "4"},
    {"id": "odd", "question": "</script> \u2028 \u00e9 {{ 3 }} \U0001f600 + 0?", "answer": "3"},
    {"id": "more", "question": "What is 2 + 5?", "answer": "7"},
]


@pytest.fixture(scope="module")
def evaluated_run(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> Path:
    """A run that has evaluated its student under a strategy of two calls and without a message."""
    folder = tmp_path_factory.mktemp("evaluated")
    file = write_run_config(folder, chatml_dir, sections=EVALUATION)
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HELD_OUT))
    name = 'name = "extract_generate"'
    texts = OWN_FILE.read_text().replace(name, f'{name}\nfurther_calls = ["Now answer."]')
    (folder / "strategies.toml").write_text(texts)
    sets = (
        f"strategies={folder / 'strategies.toml'}",
        'evaluation.messages=["extract_generate", "empty"]',
    )
    with open_run(load_config(file, sets), quiet) as run:
        evaluate_model(run, "student")
    return folder / "run"


@pytest.fixture(scope="module")
def scores(evaluated_run: Path) -> dict[tuple[str, str], StudentScore]:
    rows = committed_rows(read_ledger(evaluated_run), "evaluation", StudentScore)
    return {(row.strategy, row.problem_id): row for row in rows}


def test_a_log_for_inspect_holds_every_answer_as_it_was_asked_and_graded(
    evaluated_run: Path, tmp_path: Path, scores: dict[tuple[str, str], StudentScore]
) -> None:
    files = write_sample_logs(evaluated_run, tmp_path / "logs", "inspect")
    found = {}
    for file in files:
        log = json.loads(file.read_text())
        message = log["eval"]["task_args"]["message"]
        assert log["status"] == "success" and len(log["samples"]) == len(HELD_OUT)
        for sample in log["samples"]:
            found[message, sample["id"]] = sample
        values = [sample["scores"]["orca2_gen"]["value"] for sample in log["samples"]]
        told = log["results"]["scores"][0]["metrics"]["accuracy"]["value"]
        [mean] = [
            each.mean
            for each in evaluations(read_ledger(evaluated_run))[0]
            if each.message == message and not each.is_macro
        ]
        assert told == pytest.approx(mean) == sum(values) / len(values)
    assert found.keys() == scores.keys()
    for key, sample in found.items():
        row = scores[key]
        assert sample["output"]["completion"] == row.text
        assert sample["scores"]["orca2_gen"]["answer"] == row.answer
        roles = [turn["role"] for turn in sample["messages"]]
        assert sample["messages"][: len(sample["input"])] == sample["input"]
        calls = len(row.completions) or 1
        asked = ["system"] * (key[0] != "empty") + ["user", "assistant"] * calls
        assert roles == asked
    assert any(row.completions for row in scores.values())
    questions = {sample["input"][-1]["content"].splitlines()[0] for sample in found.values()}
    assert "What is 2 + 2?" in questions


def test_files_for_lm_eval_tools_hold_every_answer_and_hashes_of_what_they_hold(
    evaluated_run: Path, tmp_path: Path, scores: dict[tuple[str, str], StudentScore]
) -> None:
    files = write_sample_logs(evaluated_run, tmp_path / "logs", "lm-eval")
    found = {}
    for file in (each for each in files if each.name.startswith("samples_")):
        message = file.parent.name.partition("__")[2]
        for line in file.read_text().split("\n")[:-1]:
            row = json.loads(line)
            found[message, row["doc"]["id"]] = row
    assert found.keys() == scores.keys()
    for key, row in found.items():
        assert row["resps"] == [[scores[key].text]] and row["score"] == scores[key].score
        prompt = row["arguments"]["gen_args_0"]["arg_0"]
        assert row["prompt_hash"] == hashlib.sha256(prompt.encode()).hexdigest()
        assert [turn["role"] for turn in json.loads(prompt)][-1] == "user"
    results = [json.loads(f.read_text()) for f in files if f.name.startswith("results_")]
    assert all(each["n-samples"]["sums"] == {"original": 3, "effective": 3} for each in results)
    assert {each["results"]["sums"]["score,none"] for each in results} == {
        each.mean for each in evaluations(read_ledger(evaluated_run))[0]
    }


def test_logs_replace_nothing_and_need_an_evaluation(evaluated_run: Path, tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty directory; give a new or empty one"):
        write_sample_logs(evaluated_run, tmp_path, "inspect")
    assert (tmp_path / "diary").read_text() == "mine"


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_names_share_a_file_only_if_they_are_equal(one: str, other: str) -> None:
    assert (distinct_label(one) == distinct_label(other)) == (one == other)
    assert re.fullmatch(r"[\w.-]{1,69}", distinct_label(one), flags=re.ASCII)


@pytest.mark.slow
def test_inspect_itself_reads_the_logs(evaluated_run: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    installed = subprocess.run([python, "-m", "pip", "install", "-q", INSPECT], capture_output=True)
    if installed.returncode:
        pytest.skip(f"{INSPECT} cannot be installed here")
    write_sample_logs(evaluated_run, tmp_path / "logs", "inspect")
    reading = (
        "import sys\n"
        "from inspect_ai.log import list_eval_logs, read_eval_log\n"
        "for found in list_eval_logs(sys.argv[1]):\n"
        "    log = read_eval_log(found)\n"
        "    print(log.status, log.eval.task, len(log.samples), log.results.scores[0].name)\n"
    )
    done = subprocess.run(
        [python, "-c", reading, tmp_path / "logs"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["success sums 3 orca2_gen"] * 2
