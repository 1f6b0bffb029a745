"""The scripts in examples/, run by the commands that their docstrings give."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.notebook import load_run, rows
from orca2_gen.strategies import load_strategies

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def printed(name: str, run_dir: Path | None = None) -> str:
    """What the command in an example's docstring prints, for the run that the tests keep.

    Args:
        name: name of the example.
        run_dir: directory of a run that it makes.
    """
    docstring = ast.get_docstring(ast.parse((ROOT / "examples" / name).read_text()))
    found = re.search(r"\.venv/bin/python (.+)", docstring or "")
    assert found, f"{name} does not say how it is run"
    arguments = found[1].replace("RUN", "tests/older_run/RUN").split()
    arguments = [str(run_dir) if each == "runs/notebook" else each for each in arguments]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_fits_one_screen(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 30


def test_one_problem_becomes_a_row_without_the_instruction() -> None:
    strategies = load_strategies(None)
    taught, _, trained = printed("one_problem.py").partition("As the student trains on it:")
    assert strategies.instructions["step_by_step"] in taught
    assert strategies.instructions["step_by_step"] not in trained
    assert strategies.cautious_message in trained and "Answer: 109" in trained


def test_a_finished_dataset_is_read() -> None:
    shown = printed("read_dataset.py")
    assert "step_by_step: 35 rows" in shown
    assert "SYSTEM" in shown and "ASSISTANT" in shown and "tokens to learn" in shown


def test_a_notebook_runs_a_config_and_shows_choices_rows_and_scores(tmp_path: Path) -> None:
    shown = printed("notebook.py", tmp_path / "run")
    assert re.search(r"^64 rows$", shown, re.MULTILINE)
    assert re.search(r"^rehearsal: \w+, of \{'direct_answer': 0\.\d+", shown, re.MULTILINE)
    assert "SYSTEM" in shown and load_strategies(None).cautious_message in shown
    assert "384 scores, the first ('rehearsal', '" in shown


def test_a_stage_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(ValueError, match="'score' is no stage; expected one of problems, scores"):
        rows(load_run(ROOT / "tests/older_run/RUN"), "score")
