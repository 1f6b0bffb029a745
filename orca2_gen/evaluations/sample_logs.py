"""The answers of a run's evaluations -> a directory of logs that other tools read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from orca2_gen.config.load import read_config
from orca2_gen.evaluations.inspect_log import inspect_log, inspect_name
from orca2_gen.evaluations.lm_eval_log import (
    lm_eval_directory,
    lm_eval_results,
    lm_eval_samples,
    results_name,
    samples_name,
)
from orca2_gen.evaluations.logged import TaskAnswers, task_answers
from orca2_gen.provenance.recorded import read_recorded
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.strategies import load_strategies

LogFormat = Literal["inspect", "lm-eval"]


def write_sample_logs(run_dir: Path, out: Path, log_format: LogFormat) -> list[Path]:
    """Writes the log files and returns their paths.

    Args:
        run_dir: a run that has evaluated models.
        out: a new or empty directory.
        log_format: whose logs they are like.

    Raises:
        ValueError: the run has no evaluation, or the directory holds something.
        DamagedFile: a file of the run cannot be read.
    """
    ledger = read_ledger(run_dir)
    if not ledger.committed("evaluation"):
        raise ValueError(f"{run_dir} holds no evaluation; run `orca2 evaluate` first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty directory; give a new or empty one")
    recorded = read_recorded(run_dir).strategies
    strategies = recorded or load_strategies(read_config(run_dir / "config.json").strategies)
    made = task_answers(ledger, strategies)
    return list(_inspect(made, out) if log_format == "inspect" else _lm_eval(made, out))


def _inspect(made: Iterator[TaskAnswers], out: Path) -> Iterator[Path]:
    for answers in made:
        yield _written(out / inspect_name(answers), inspect_log(answers))


def _lm_eval(made: Iterator[TaskAnswers], out: Path) -> Iterator[Path]:
    of_directory: dict[str, list[TaskAnswers]] = {}
    for answers in made:
        of_directory.setdefault(lm_eval_directory(answers), []).append(answers)
    for directory, tasks in of_directory.items():
        time = min(answers.began for answers in tasks)
        for answers in tasks:
            path = out / directory / samples_name(answers, time)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in lm_eval_samples(answers)]
            write_bytes(path, "".join(lines).encode())
            yield path
        yield _written(out / directory / results_name(time), lm_eval_results(tasks))


def _written(path: Path, value: Any) -> Path:
    write_bytes(path, (json.dumps(value, ensure_ascii=False) + "\n").encode())
    return path
