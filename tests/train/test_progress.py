from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orca2_gen.run_directory.arrow_files import DamagedFile
from train.fit import StepMetrics
from train.progress import check_metrics, step_log

LINES = (
    {"stage": "scores", "time": 1.0, "units": 3},
    {"step": 1, "loss": 2.0},
    {"stage": "evaluation student", "time": 2.0},
    {"step": 2, "loss": 1.0},
)

METRICS = StepMetrics(
    step=1,
    loss=2.0,
    learning_rate=1e-5,
    grad_norm=1.0,
    labelled_tokens=10,
    tokens_per_second=100.0,
    fill=1.0,
    seconds=0.1,
    mfu=None,
    memory_mb=1.0,
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


def test_lines_that_were_cut_short_are_left_out_and_stop_no_training(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"stage": "sco\n{"step": 1, "loss": 2.0}\n\n{"step": 2, "lo\n{"step"')
    check_metrics(file)
    with step_log(file, num_steps=5, start_step=2):
        pass
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"step": 1, "loss": 2.0}
    ]


@pytest.mark.parametrize(
    "body", ["a diary\n", "[1]\n", "3\n", '{"diary": 1}\n', "{" * 70_000 + "\n"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, body: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(body)
    with pytest.raises(DamagedFile, match="line 1 holds no metrics of a step"):
        check_metrics(file)


def test_metrics_that_cannot_be_written_stop_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "metrics.jsonl"
    with step_log(file, num_steps=3, start_step=0) as record:
        record(METRICS)
        file.unlink()
        file.mkdir()
        record(dataclasses.replace(METRICS, step=2))
        record(dataclasses.replace(METRICS, step=3))
    said = capsys.readouterr().err
    assert said.count("metrics are not written") == 1 and "Is a directory" in said
