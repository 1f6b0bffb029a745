"""`orca2 demo`: the whole method on the microworld, and tables of its results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from orca2_gen.config.load import load_config
from orca2_gen.console.evaluations import accuracies_table, differences_table
from orca2_gen.console.fitting import print_table
from orca2_gen.console.progress import console as progress_console
from orca2_gen.console.progress import show_stage, shown
from orca2_gen.console.tables import example_table, outcome_table, selection_table
from orca2_gen.evaluations.about import STUDENT, TRAINED
from orca2_gen.evaluations.accuracies import MACRO, Accuracy, evaluations
from orca2_gen.records import Example, Rationale, Selection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, write_summary
from orca2_gen.strategies import CAUTIOUS
from ray_jobs.evaluation import evaluate_model
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
        evaluate_model(run, STUDENT)
        selected = {
            s.group: s.strategy for s in committed_rows(run.ledger, "selections", Selection)
        }
        seconds = dict(run.seconds)
    with show_stage("training", None):
        training_started = time.monotonic()
        train_student(CONFIG, overrides)
        seconds["training"] = time.monotonic() - training_started
    with open_run(config, shown(Path(config.run_dir))) as run:
        evaluate_model(run, TRAINED, trained_student(config))
        accuracies, differences = evaluations(run.ledger)
        seconds |= {
            name: value
            for name, value in run.seconds.items()
            if name.startswith(f"evaluation {TRAINED}")
        }
    print_table(accuracies_table(accuracies))
    print_table(differences_table(differences))
    before, after = (_means(accuracies, model) for model in (STUDENT, TRAINED))
    seconds["total"] = time.monotonic() - started
    path = write_summary(
        run.run_dir, "evaluation/summary.json", _summary(before, after, selected, seconds)
    )
    out.print(
        f"cautious message, mean over tasks: {100 * before[MACRO]:.1f} % before, "
        f"{100 * after[MACRO]:.1f} % after; {seconds['total']:.0f} s in all; "
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


def _means(accuracies: Sequence[Accuracy], model: str) -> dict[str, float]:
    """Task, or MACRO, -> the model's accuracy under the cautious message."""
    return {
        MACRO if each.is_macro else each.task: each.mean
        for each in accuracies
        if (each.model, each.message) == (model, CAUTIOUS)
    }


def _summary(
    before: Mapping[str, float],
    after: Mapping[str, float],
    selected: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "cautious_before": before[MACRO],
        "cautious_after": after[MACRO],
        "per_task": {
            task: {"before": before[task], "after": after[task]} for task in before if task != MACRO
        },
        "selected": selected,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
