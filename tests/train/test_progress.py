from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.progress import check_metrics, step_log

LINES = (
    {"stage": "scores", "time": 1.0, "units": 3},
    {"step": 1, "loss": 2.0},
    {"stage": "evaluation student", "time": 2.0},
    {"step": 2, "loss": 1.0},
)


@pytest.mark.parametrize("start_step", [0, 1, 2])
def test_lines_of_the_runs_stages_stay_where_steps_are_made_again(
    tmp_path: Path, start_step: int
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    check_metrics(file)
    with step_log(file, num_steps=5, start_step=start_step):
        pass
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert kept == [line for line in LINES if line.get("step", 0) <= start_step]
