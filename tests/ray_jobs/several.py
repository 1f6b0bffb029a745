"""Runs in which a teacher says what a test likes, played in this process to their dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from orca2_gen.config.load import load_config
from orca2_gen.dataset.manifest import DatasetSummary
from orca2_gen.engine import WARM_UP, Request
from orca2_gen.scripted_engine import Script
from ray_jobs import pipeline, run
from tests.conftest import quiet
from tests.ray_in_process import finished, ray_in_process

ROOT = Path(__file__).parents[2]
CONFIG = f"""
run_dir = "run"
rows_per_unit = 3
[[tasks]]
name = "sums"
format = "jsonl"
path = "sums.jsonl"
answer_type = "numeric"
[student]
engine = "scripted"
tokenizer = "{ROOT}/orca2_gen/microworld/student"
[teacher]
engine = "scripted"
tokenizer = "{ROOT}/orca2_gen/microworld/teacher"
[selection]
policy = "fixed:direct_answer"
[rationales]
temperature = 0.7
[dataset]
examples_per_shard = 4
"""
Said = Mapping[str, Sequence[str]]
"""Own id of a problem -> what the teacher says at each attempt."""


def config_file(folder: Path, said: Said) -> Path:
    """A config whose problems have these ids and all the gold answer 7."""
    rows = [
        {"id": own, "question": f"What is {number} + {7 - number}?", "answer": "7"}
        for number, own in enumerate(said)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    task = folder / "sums.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "run.toml"
    file.write_text(CONFIG.replace('"sums.jsonl"', f'"{task}"'))
    return file


def script_of(said: Said) -> Script:
    """A script that says this."""

    def script(request: Request) -> str:
        if request.problem_id == WARM_UP:
            return "Answer: 2"
        return said[request.problem_id.rpartition("/")[2]][request.attempt]

    return script


def play(file: Path, run_dir: Path, said: Said, *overrides: str) -> DatasetSummary:
    """The summary of a config's dataset, made or gone on with in this process."""
    config = load_config(file, [f"run_dir={run_dir}", *overrides])
    with (
        patch("ray_jobs.engines.actor.planted_script", lambda *_: script_of(said)),
        ray_in_process(finished),
        run.open_run(config, quiet, say=lambda line: None) as opened,
    ):
        return pipeline.run_all(opened)
