from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from orca2_gen.records import Problem, StudentScore
from orca2_gen.report.evaluations import MACRO, evaluations
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from tests.conftest import FinishedRun


def evaluated(run_dir: Path, sample: StudentScore, **models: dict[str, list[float]]) -> Ledger:
    """A ledger with the scores of models on tasks, item by item, under the cautious message."""
    ledger = Ledger(run_dir=run_dir, writable=True)
    for model, tasks in models.items():
        for task, scores in tasks.items():
            rows = [
                dataclasses.replace(
                    sample,
                    problem_id=f"{task}/test/{item}",
                    task=task,
                    strategy="cautious",
                    score=score,
                    outcome="correct" if score else "incorrect",
                )
                for item, score in enumerate(scores)
            ]
            name = UnitName(
                stage="evaluation", stage_key="0123456789", unit=f"{model}-01234567-{task}-000000"
            )
            ledger.commit([write_unit(run_dir, name, rows, StudentScore)])
    return ledger


@pytest.fixture(scope="module")
def sample(undisturbed: FinishedRun) -> StudentScore:
    return committed_rows(read_ledger(undisturbed.run_dir), "scores", StudentScore)[0]


def test_accuracies_are_means_with_intervals_and_all_tasks_count_alike(
    tmp_path: Path, sample: StudentScore
) -> None:
    ledger = evaluated(tmp_path, sample, before={"a": [1.0, 0.0, 0.0, 0.0], "b": [1.0, 1.0]})
    accuracies, differences = evaluations(ledger)
    assert differences == []
    means = {each.task: each.mean for each in accuracies}
    assert means == {"a": 0.25, "b": 1.0, f"{MACRO} (2)": 0.625}
    assert all(0.0 <= each.low <= each.mean <= each.high <= 1.0 for each in accuracies)


def test_a_difference_is_paired_item_by_item(tmp_path: Path, sample: StudentScore) -> None:
    before, after = [1.0, 0.0] * 50, [1.0, 0.0] * 45 + [1.0, 1.0] * 5
    ledger = evaluated(tmp_path, sample, **{"model-1": {"a": before}, "after": {"a": after}})
    _, differences = evaluations(ledger)
    [on_task] = [each for each in differences if each.task == "a"]
    assert (on_task.first, on_task.second) == ("model-1", "after")
    assert on_task.mean == pytest.approx(0.05) and on_task.num == 100
    # Five of a hundred items change; unpaired, the interval would be twice as wide.
    unpaired = 1.959964 * math.sqrt((0.5 * 0.5 + 0.55 * 0.45) / 100)
    assert 1.959964 * math.sqrt(0.05 * 0.95 / 100) < on_task.high - on_task.mean < unpaired / 2


def test_a_few_items_that_all_agree_are_no_certainty(tmp_path: Path, sample: StudentScore) -> None:
    ledger = evaluated(tmp_path, sample, one={"a": [1.0, 1.0]}, two={"a": [1.0, 1.0]})
    accuracies, differences = evaluations(ledger)
    assert all(each.low < each.mean <= each.high for each in accuracies)
    assert all(each.low < each.mean == 0.0 < each.high for each in differences)


def test_two_models_of_one_name_stay_two(tmp_path: Path, sample: StudentScore) -> None:
    ledger = Ledger(run_dir=tmp_path, writable=True)
    for key, score in (("aaaaaaaa11", 0.0), ("bbbbbbbb22", 1.0)):
        row = dataclasses.replace(sample, task="a", strategy="cautious", score=score)
        name = UnitName(stage="evaluation", stage_key=key, unit=f"student-{key[:8]}-a-000000")
        ledger.commit([write_unit(tmp_path, name, [row], StudentScore)])
    _, differences = evaluations(ledger)
    assert {(each.first, each.second, each.mean) for each in differences} == {
        ("student aaaaaaaa", "student bbbbbbbb", 1.0)
    }


def test_items_that_one_model_did_not_answer_are_left_out(
    tmp_path: Path, sample: StudentScore
) -> None:
    ledger = evaluated(tmp_path, sample, one={"a": [1.0, 1.0], "b": [1.0]}, two={"a": [0.0]})
    _, differences = evaluations(ledger)
    assert {each.task: (each.mean, each.num) for each in differences} == {
        "a": (-1.0, 1),
        f"{MACRO} (1)": (-1.0, 1),
    }


def test_a_run_without_evaluation_has_none(undisturbed: FinishedRun) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    if not ledger.committed("evaluation"):
        assert evaluations(ledger) == ([], [])


def test_an_evaluation_that_is_not_done_says_of_how_many_items(
    tmp_path: Path, sample: StudentScore, undisturbed: FinishedRun
) -> None:
    ledger = evaluated(tmp_path, sample, before={"a": [1.0, 0.0], "b": [1.0]})
    problem = committed_rows(read_ledger(undisturbed.run_dir), "problems", Problem)[0]
    for task, num in (("a", 5), ("b", 1), ("c", 3)):
        rows = [dataclasses.replace(problem, problem_id=f"{task}/test/{n}") for n in range(num)]
        name = UnitName(stage="evaluation_problems", stage_key="k", unit=f"{task}-000000")
        ledger.commit([write_unit(tmp_path, name, rows, Problem)])
    accuracies, _ = evaluations(ledger)
    assert {each.task: (each.num, each.of) for each in accuracies} == {
        "a": (2, 5),
        "b": (1, 1),
        f"{MACRO} (2)": (3, 9),
    }


def test_an_accuracy_says_how_its_answers_ended(tmp_path: Path, sample: StudentScore) -> None:
    ledger = evaluated(tmp_path, sample, before={"a": [1.0, 0.0, 0.0]})
    rows = [
        dataclasses.replace(
            sample,
            problem_id=f"b/test/{place}",
            task="b",
            strategy="cautious",
            score=0.0,
            outcome=outcome,
            num_completion_tokens=10 * (place + 1),
            ending=(),
        )
        for place, outcome in enumerate(("truncated", "truncated", "unparsed", "incorrect"))
    ]
    name = UnitName(stage="evaluation", stage_key="0123456789", unit="before-01234567-b-000000")
    ledger.commit([write_unit(tmp_path, name, rows, StudentScore)])
    found = {each.task: each for each in evaluations(ledger)[0]}
    assert (found["b"].truncated, found["b"].unparsed, found["b"].forced) == (0.5, 0.25, 0.0)
    assert found["b"].tokens == 25.0
    assert found[f"{MACRO} (2)"].truncated == 0.25
