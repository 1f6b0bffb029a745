from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.evaluations.about import Evaluation, safe_label, write_about
from orca2_gen.evaluations.accuracies import MACRO, evaluations
from orca2_gen.records import Completion, Problem, Rejection, StudentScore
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
        ("student 1", "student 2", 1.0)
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


def ended(sample: StudentScore, place: int, **how: Any) -> StudentScore:
    """An answer of 10, 20, 30 ... tokens that ended in a certain way."""
    return dataclasses.replace(
        sample,
        **{
            "problem_id": f"b/test/{place}",
            "task": "b",
            "strategy": "cautious",
            "score": 0.0,
            "finish_reason": "stop",
            "num_completion_tokens": 10 * (place + 1),
            "ending": (),
            **how,
        },
    )


def committed(ledger: Ledger, key: str, unit: str, rows: list[StudentScore]) -> None:
    name = UnitName(stage="evaluation", stage_key=key, unit=unit)
    ledger.commit([write_unit(ledger.run_dir, name, rows, StudentScore)])


def test_an_accuracy_says_how_its_answers_ended(tmp_path: Path, sample: StudentScore) -> None:
    ledger = evaluated(tmp_path, sample, before={"a": [1.0, 0.0, 0.0]})
    rows = [
        ended(sample, place, outcome=outcome, finish_reason=reason)
        for place, (outcome, reason) in enumerate(
            [("truncated", "length")] * 2 + [("unparsed", "stop"), ("incorrect", "stop")]
        )
    ]
    committed(ledger, "0123456789", "before-01234567-b-000000", rows)
    found = {each.task: each for each in evaluations(ledger)[0]}
    assert (found["b"].truncated, found["b"].unparsed, found["b"].forced) == (0.5, 0.25, 0.0)
    assert found["b"].tokens == 25.0
    assert found[f"{MACRO} (2)"].truncated == 0.25
    assert [each.is_macro for each in found.values()] == [False, False, True]


def test_an_answer_that_a_forced_ending_decides_was_cut_or_unreadable_all_the_same(
    tmp_path: Path, sample: StudentScore
) -> None:
    forced = Completion(
        problem_id="b/test/0",
        role="student",
        strategy="cautious",
        call=1,
        attempt=0,
        text="B",
        finish_reason="stop",
        num_prompt_tokens=5,
        num_cached_tokens=0,
        num_completion_tokens=2,
    )
    correct = {"outcome": "correct", "score": 1.0}
    rows = [
        ended(sample, 0, **correct),
        ended(sample, 1, **correct, finish_reason="length", ending=(forced,)),
        ended(sample, 2, **correct, ending=(forced,)),
        ended(sample, 3, **correct, ending=(forced,), ending_is_unread=True),
        ended(sample, 4, outcome="truncated", finish_reason="length", ending=(forced,)),
    ]
    ledger = Ledger(run_dir=tmp_path, writable=True)
    committed(ledger, "0123456789", "student-01234567-b-000000", rows)
    found = evaluations(ledger)[0][0]
    assert (found.truncated, found.unparsed, found.forced) == (0.4, 0.2, 0.4)
    assert (found.mean, found.unforced) == (0.8, 0.4)
    assert found.tokens == pytest.approx((10 + 20 + 30 + 40 + 50 + 3 * 2) / 5)
    assert [row.is_forced for row in rows] == [False, True, True, False, False]


def test_one_model_under_two_messages_is_one_and_the_student_is_the_first(
    tmp_path: Path, sample: StudentScore
) -> None:
    ledger = Ledger(run_dir=tmp_path, writable=True)
    made = [("trained", "t" * 10, "same", "cautious"), ("student", "a" * 10, "one", "cautious")]
    made += [("student", "b" * 10, "one", "direct"), ("trained", "u" * 10, "other", "cautious")]
    for label, key, model_key, message in made:
        about = Evaluation(
            label=label,
            stage_key=key,
            model=f"/models/{label}",
            model_key=model_key,
            messages={message: "text"},
            max_tokens=8,
        )
        write_about(tmp_path, about)
        rows = [ended(sample, 0, strategy=message, outcome="correct", score=1.0)]
        committed(ledger, key, f"{label}-{key[:8]}-b-000000", rows)
    accuracies, differences = evaluations(ledger)
    assert list(dict.fromkeys((each.model, each.message) for each in accuracies)) == [
        ("student", "cautious"),
        ("student", "direct"),
        ("trained 1", "cautious"),
        ("trained 2", "cautious"),
    ]
    assert {each.first for each in differences} == {"student"}
    assert {each.second for each in differences} == {"trained 1", "trained 2"}


def test_items_that_could_not_be_asked_are_told_beside_the_accuracy(
    tmp_path: Path, sample: StudentScore
) -> None:
    ledger = Ledger(run_dir=tmp_path, writable=True)
    name = UnitName(stage="evaluation", stage_key="0123456789", unit="m-01234567-b-000000")
    lost = [
        Rejection(problem_id="b/test/9", stage="evaluation", reason="prompt_too_long", detail="")
    ]
    rows = [ended(sample, 0, outcome="correct", score=1.0)]
    ledger.commit([write_unit(tmp_path, name, rows, StudentScore, lost)])
    on_task, of_all = evaluations(ledger)[0]
    assert (on_task.lost, of_all.lost, on_task.items) == (1, 1, "1, 1 lost")


@given(st.text(max_size=200))
def test_a_label_is_a_name_that_a_file_can_have(name: str) -> None:
    label = safe_label(name)
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]{0,59}", label, flags=re.ASCII)
    assert safe_label(label) == label


def test_a_task_none_of_whose_items_could_be_asked_is_told(
    tmp_path: Path, sample: StudentScore
) -> None:
    ledger = evaluated(tmp_path, sample, m={"a": [1.0, 0.0]})
    name = UnitName(stage="evaluation", stage_key="0123456789", unit="m-01234567-b-000000")
    lost = [
        Rejection(problem_id=f"b/test/{n}", stage="evaluation", reason="prompt_too_long", detail="")
        for n in range(3)
    ]
    ledger.commit([write_unit(tmp_path, name, [], StudentScore, lost)])
    on_task, of_all = evaluations(ledger)[0]
    assert (on_task.task, on_task.lost) == ("a", 0)
    assert (of_all.task, of_all.mean, of_all.lost) == (f"{MACRO} (1 of 2)", 0.5, 3)
