from __future__ import annotations

import dataclasses
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.pairs.figures import (
    UNDECIDED,
    choice_figures,
    held_out_figures,
    scoring_figures,
    speed_figures,
    teaching_figures,
    undecided_figures,
)
from benchmarks.pairs.tables import (
    choice_table,
    held_out_table,
    scoring_table,
    seconds_table,
    speed_line,
    teaching_table,
    undecided_line,
)
from orca2_gen.records import Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.selection.decision import summarise
from tests.conftest import ungraded_score

CELLS = st.lists(
    st.tuples(
        st.sampled_from(["gsm8k", "aqua"]),
        st.sampled_from(["direct_answer", "step_by_step"]),
        st.sampled_from(["correct", "incorrect", *UNDECIDED]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)
"""A task, a strategy, an outcome, and whether a forced ending was asked for."""
Cells = list[tuple[str, str, str, bool]]


def _scores(cells: Cells) -> list[StudentScore]:
    problem = Problem(
        problem_id="sums/train/3", task="sums", question="?", target="9", answer_type="numeric"
    )
    blank = ungraded_score(problem, "9")
    ending = (dataclasses.replace(blank.completion, call=1, text=" 9"),)
    return [
        dataclasses.replace(
            blank,
            problem_id=f"{task}/train/{number}",
            task=task,
            strategy=strategy,
            outcome=outcome,
            score=float(outcome == "correct"),
            ending=ending if is_asked else (),
        )
        for number, (task, strategy, outcome, is_asked) in enumerate(cells)
    ]


def _selections(cells: Cells) -> list[Selection]:
    scores = _scores(cells)
    return [
        Selection(
            group=task,
            policy="student_best",
            method="full_grid",
            delta=0.0,
            strategy="direct_answer",
            reason="highest_mean",
            indifference=0.0,
            tied=("direct_answer",),
            fragile=task == "aqua",
            num_problems=40,
            num_scored_problems=len(cells),
            summaries=tuple(
                summarise(name, [s for s in scores if (s.task, s.strategy) == (task, name)])
                for name in ("direct_answer", "step_by_step")
            ),
        )
        for task in ("aqua", "gsm8k")
    ]


@given(CELLS)
def test_every_cell_is_counted_once_and_the_undecided_ones_are_those_without_a_verdict(
    cells: Cells,
) -> None:
    found = scoring_figures(_selections(cells))
    lost = sum(outcome in UNDECIDED for _, _, outcome, _ in cells)
    forced = sum(each.is_forced for each in _scores(cells))
    assert sum(each["num_scored"] for each in found) == len(cells)
    assert sum(
        each[name] * each["num_scored"] for each in found for name in UNDECIDED
    ) == pytest.approx(lost)
    assert sum(each["forced"] * each["num_scored"] for each in found) == pytest.approx(forced)
    said = undecided_figures(_selections(cells))
    assert (said["num_cells"], said["num_undecided"]) == (len(cells), lost)
    assert said["num_undecided_by_text"] == lost + forced
    assert said["share"] == pytest.approx(lost / len(cells))


@given(CELLS)
def test_held_out_shares_add_up_and_an_interval_holds_its_mean(cells: Cells) -> None:
    found = held_out_figures(_scores(cells))
    assert found["all"]["num_problems"] == len(cells)
    assert sum(f["num_problems"] for f in found.values()) == 2 * len(cells)
    for each in found.values():
        low, high = each["interval"]
        assert 0.0 <= low <= each["accuracy"] <= high <= 1.0
        assert each["accuracy"] + sum(each[name] for name in UNDECIDED) <= 1.0 + 1e-9


@given(CELLS)
def test_without_forced_answers_an_accuracy_loses_the_right_ones_alone(cells: Cells) -> None:
    scores = _scores(cells)
    found = held_out_figures(scores)["all"]
    right = [each for each in scores if each.outcome == "correct"]
    own = [each for each in right if not each.is_forced]
    assert found["accuracy"] == pytest.approx(len(right) / len(cells))
    assert found["accuracy_unforced"] == pytest.approx(len(own) / len(cells))
    assert found["forced"] == pytest.approx(sum(s.is_forced for s in scores) / len(cells))


def _rationale(task: str, number: int, attempt: int, reasoning: str) -> Rationale:
    return Rationale(
        problem_id=f"{task}/train/{number}",
        task=task,
        strategy="step_by_step",
        attempt=attempt,
        system="Think.",
        user="?",
        text="Answer: 9",
        answer="9",
        num_prompt_tokens=10,
        num_completion_tokens=20 + number,
        reasoning=reasoning,
    )


def test_rationales_and_rejections_are_counted_by_task_and_reason() -> None:
    rationales = [_rationale("gsm8k", 0, 0, ""), _rationale("gsm8k", 1, 1, "Let me see.")]
    rejections = [
        Rejection(problem_id=f"{task}/train/9", stage="rationales", reason=reason, detail="")
        for task, reason in (("gsm8k", "incorrect"), ("aqua", "truncated"), ("aqua", "truncated"))
    ]
    aqua, gsm8k = teaching_figures(rationales, rejections)
    assert (aqua["num_problems"], aqua["num_accepted"]) == (2, 0)
    assert aqua["rejected"] == {"truncated": 2}
    assert gsm8k == {
        "task": "gsm8k",
        "num_problems": 3,
        "num_accepted": 2,
        "num_sampled": 1,
        "num_thoughts": 1,
        "tokens": 20.5,
        "rejected": {"incorrect": 1},
    }


def test_rows_per_engine_second_count_the_engines_that_a_dataset_needs() -> None:
    seconds = {"scores": 30.0, "rationales": 10.0, "evaluation before": 99.0}
    found = speed_figures(seconds, {"scores": 2, "rationales": 1}, 35)
    assert (found["engine_seconds"], found["rows_per_engine_second"]) == (70.0, 0.5)
    assert speed_figures({}, {"scores": 2}, 0)["rows_per_engine_second"] == 0.0


@given(CELLS)
def test_all_figures_are_json_and_all_tables_can_be_printed(cells: Cells) -> None:
    selections, scores = _selections(cells), _scores(cells)
    held_out = {"before": held_out_figures(scores), "after": held_out_figures(scores)}
    teaching = teaching_figures([_rationale("gsm8k", 0, 0, "")], [])
    figures = [scoring_figures(selections), choice_figures(selections), teaching, held_out]
    assert json.loads(json.dumps(figures)) == figures
    out = io.StringIO()
    console = Console(file=out, width=130)
    for table in (
        scoring_table(scoring_figures(selections)),
        choice_table(choice_figures(selections)),
        teaching_table(teaching),
        held_out_table(held_out),
        seconds_table({"scores": 12.0}),
    ):
        console.print(table)
    text = out.getvalue()
    assert text.count("* direct answer") == 2
    assert "before" in text
    assert "after" in text


def test_lines_say_the_share_and_the_goal() -> None:
    said = undecided_line(
        {"num_cells": 200, "num_undecided_by_text": 80, "num_undecided": 9, "share": 0.045}
    )
    assert said == (
        "undecided: 80 of 200 cells by their own text, 9 of 200 after forced endings, 4.5 %; "
        "the goal is at most 5 %"
    )
    assert speed_line(speed_figures({"scores": 100.0}, {"scores": 1}, 5)) == (
        "accepted rows per engine-second: 0.0500 (5 rows, 100 s of engines)"
    )
