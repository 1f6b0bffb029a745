"""A prepared directory in a whole run: scored by vLLM, trained, proved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.console.progress import show_stage
from orca2_gen.preparation import Wish, prepare
from orca2_gen.provenance.verify import verify
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.ledger import committed_rows
from orca2_gen.run_directory.regular_files import read_regular
from ray_jobs.demo import CONFIG
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.preparation.pretrained_models import body
from train.launch import train_student, trained_student

pytestmark = [pytest.mark.engine, pytest.mark.slow]
MICROWORLD = Path(__file__).parents[2] / "orca2_gen" / "microworld"


def test_a_run_scores_trains_and_proves_a_prepared_student(tmp_path: Path) -> None:
    model, student = tmp_path / "base", tmp_path / "prepared"
    shutil.copytree(MICROWORLD / "student", model)
    (model / "chat_template.jinja").unlink()
    prepare(Wish(model=model, out=student, tokens=("<think>", "</think>")))
    lines = read_regular(MICROWORLD / "tasks" / "river.train.jsonl", 1 << 24).splitlines(True)
    (tmp_path / "river.jsonl").write_bytes(b"".join(lines[:12]))
    (tmp_path / "held-out.jsonl").write_bytes(b"".join(lines[12:16]))
    sets = [
        f"run_dir={tmp_path / 'run'}",
        f"student.model={student}",
        f'tasks=[{{name = "river", format = "jsonl", path = "{tmp_path / "river.jsonl"}"}}]',
        'evaluation.tasks=[{name = "river", format = "jsonl", '
        f'path = "{tmp_path / "held-out.jsonl"}"}}]',
        "selection.scored_problems=6",
        "selection.block_size=6",
        "training.num_steps=3",
        "training.rows_per_step=2",
    ]
    config = load_config(CONFIG, sets)
    with open_run(config, show_stage) as run:
        assert run_all(run).rows > 0
        scores = list(committed_rows(run.ledger, "scores", StudentScore))
    # The model answers as before: the new rows take nothing away from the old ones.
    assert sum(score.outcome == "correct" for score in scores) > len(scores) / 4
    assert verify(Path(config.run_dir)).findings == []
    train_student(CONFIG, sets)
    trained = trained_student(config)
    assert body(trained, "config.json")["vocab_size"] == body(student, "config.json")["vocab_size"]
    assert (trained / "chat_template.jinja").read_bytes() == (
        student / "chat_template.jinja"
    ).read_bytes()
