"""`orca2 demo`: the whole method on the microworld, and tables of its results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from orca2_gen.config.load import load_config
from orca2_gen.console.fitting import print_table
from orca2_gen.console.progress import console as progress_console
from orca2_gen.console.progress import show_stage, shown
from orca2_gen.console.tables import example_table, outcome_table, selection_table
from orca2_gen.records import Example, Rationale, Selection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, write_summary
from ray_jobs.evaluation import accuracies, evaluation_table, score_model
from ray_jobs.pipeline import run_all
from ray_jobs.run import Run, open_run
from train.launch import train_student, trained_student

CONFIG = Path(__file__).parent / "configs" / "microworld.toml"
EXAMPLE_TASK = "river"
"""The family whose best strategy differs most between teacher and student."""


def run_demo(overrides: Sequence[str]) -> None:
    """Runs the microworld's config to the end, prints tables, writes evaluation/summary.json."""
    started = time.monotonic()
    config = load_config(CONFIG, overrides)
    out = Console(width=None if Console().is_terminal else 130)
    progress_console.print(
        "The microworld shows the mechanism in a world built to have it; it is no evidence about "
        "Llama-2."
    )
    with open_run(config, shown(Path(config.run_dir))) as run:
        summary = run_all(run)
        print_table(selection_table(run.ledger))
        print_table(outcome_table(run.ledger))
        out.print(example_table(*_one_example(run)))
        out.print(
            f"{summary.rows} training examples, prompts {summary.prompts}, in {summary.directory}\n"
        )
        scores = {"before": score_model(run, "before")}
        selected = {
            s.group: s.strategy for s in committed_rows(run.ledger, "selections", Selection)
        }
        seconds = dict(run.seconds)
    with show_stage("training", None):
        training_started = time.monotonic()
        train_student(CONFIG, overrides)
        seconds["training"] = time.monotonic() - training_started
    with open_run(config, shown(Path(config.run_dir))) as run:
        scores["after"] = score_model(run, "after", trained_student(config))
        seconds |= {
            name: value
            for name, value in run.seconds.items()
            if name.startswith("evaluation after")
        }
    print_table(evaluation_table(scores))
    before, after = accuracies(scores["before"]), accuracies(scores["after"])
    seconds["total"] = time.monotonic() - started
    path = write_summary(
        run.run_dir, "evaluation/summary.json", _summary(before, after, selected, seconds)
    )
    out.print(
        f"cautious message, mean over tasks: {100 * before['cautious']['macro']:.1f} % before, "
        f"{100 * after['cautious']['macro']:.1f} % after; {seconds['total']:.0f} s in all; "
        f"figures in {path}"
    )


def _one_example(run: Run) -> tuple[Rationale, Example]:
    """A rationale and its example, of the task that shows erasure best."""
    rationales = run.ledger.committed("rationales")
    receipt = next((r for r in rationales if r.unit.startswith(EXAMPLE_TASK)), rationales[0])
    made = run.ledger.units["examples", receipt.unit].accepted
    example = read_records(run.run_dir, made, Example)[0]
    said = (example.problem_id, example.messages[-1].content)
    taught = read_records(run.run_dir, receipt.accepted, Rationale)
    return next(each for each in taught if (each.problem_id, each.text) == said), example


def _summary(
    before: Any, after: Any, selected: dict[str, str], seconds: dict[str, float]
) -> dict[str, Any]:
    tasks = [task for task in before["cautious"] if task != "macro"]
    return {
        "cautious_before": before["cautious"]["macro"],
        "cautious_after": after["cautious"]["macro"],
        "per_task": {
            t: {"before": before["cautious"][t], "after": after["cautious"][t]} for t in tasks
        },
        "selected": selected,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
