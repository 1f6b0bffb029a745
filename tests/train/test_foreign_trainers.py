"""Trainers that know nothing of us: what they train of our rows is what we train of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.foreign.environments import OWN
from benchmarks.foreign.ours import OwnTrainer
from benchmarks.foreign.trials import TOLERANCE, TRIALS, Outcome, run_trial
from orca2_gen.dataset.manifest import read_manifest

# Each in this project's environment; `python -m benchmarks.trainers` has more, each in its own.
INSTALLED = (
    "trl",
    "trl-messages",
    "trl-tokens",
    "trl-prompt-completion",
    "trl-messages-unmarked",
    "transformers",
    "torch-dataloader",
    "ray-data",
)
EQUAL = [trial.name for trial in TRIALS if trial.name in INSTALLED and not trial.known]


def tried(name: str, dataset: Path, model: Path, out: Path) -> Outcome:
    [trial] = [trial for trial in TRIALS if trial.name == name]
    here = dataclasses.replace(trial, environment=OWN)
    return run_trial(here, dataset, model, out, OwnTrainer(dataset, model))


@pytest.mark.parametrize("name", EQUAL)
def test_a_foreign_trainer_trains_the_tokens_of_the_manifest_with_our_loss(
    name: str, dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    outcome = tried(name, dataset_dir, model_dir, tmp_path)
    assert (outcome.verdict, outcome.note) == ("equal", "")
    summary = read_manifest(dataset_dir).summary
    assert summary is not None
    assert (outcome.rows, outcome.trained_tokens) == (summary.rows, summary.trained_tokens)
    assert outcome.first_loss is not None and outcome.our_loss is not None
    assert abs(outcome.first_loss - outcome.our_loss) <= TOLERANCE


def test_trl_refuses_messages_whose_template_marks_no_answer(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    outcome = tried("trl-messages-unmarked", dataset_dir, model_dir, tmp_path)
    assert outcome.verdict == "refused" and not outcome.is_fault and "generation" in outcome.note


def test_trl_trains_one_token_more_of_each_completion_where_turns_end_in_a_line_break(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    outcome = tried("trl-prompt-completion", dataset_dir, model_dir, tmp_path)
    summary = read_manifest(dataset_dir).summary
    assert summary is not None and outcome.trained_tokens is not None
    assert not outcome.is_fault
    assert outcome.trained_tokens - summary.trained_tokens == outcome.rows == summary.rows
