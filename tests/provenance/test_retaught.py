from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.prompts import user_text
from orca2_gen.provenance.retaught import MAY_DIFFER, reteach, teaching_difference
from orca2_gen.provenance.stage_keys import PREVIOUS, stage_keys
from orca2_gen.records import Problem, Rationale
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.strategies import Strategies
from tests.test_rationales import ASKING, RIGHT, WRONG

STRATEGY = "step_by_step"


def answer(problem: Problem, strategies: Strategies, **changes: Any) -> Rationale:
    row = Rationale(
        problem_id=problem.problem_id,
        task=problem.task,
        strategy=STRATEGY,
        attempt=0,
        system=strategies.system_message(STRATEGY, problem),
        user=user_text(problem, strategies),
        text=RIGHT,
        answer="9",
        num_prompt_tokens=1,
        num_completion_tokens=1,
    )
    return dataclasses.replace(row, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "direct_answer"},
        {"system": "Think."},
        {"user": "What is 4 + 5? "},
        {"further_calls": ("Go on.",)},
        {"problem_id": "sums/train/other"},
        {"attempt": 1},
    ],
)
def test_an_answer_to_something_else_leaves_its_problem_to_the_teacher(
    sum_problem: Problem, strategies: Strategies, changes: dict[str, Any]
) -> None:
    own, other = answer(sum_problem, strategies), answer(sum_problem, strategies, **changes)
    found = reteach([sum_problem], STRATEGY, [own], strategies=strategies, asking=ASKING)
    assert (found.num_open, found.stored) == (0, (own,))
    assert [row for each in found.taught for row in each.rationales] == [own]
    found = reteach([sum_problem], STRATEGY, [other], strategies=strategies, asking=ASKING)
    assert (found.num_open, found.taught) == (1, ())
    assert found.stored == ((other,) if "attempt" in changes else ())


def test_changed_verdicts_are_counted_where_no_further_answer_is_needed(
    sum_problem: Problem, strategies: Strategies
) -> None:
    rows = [
        answer(sum_problem, strategies, text=WRONG),  # accepted by the other grader
        answer(sum_problem, strategies, attempt=1, fault="unparsed"),
    ]
    found = reteach([sum_problem], STRATEGY, rows, strategies=strategies, asking=ASKING)
    assert (found.num_open, found.now_refused, found.now_accepted) == (0, 1, 1)
    [taught] = found.taught
    assert [row.fault for row in taught.refused] == ["incorrect"]
    assert [row.attempt for row in taught.rationales] == [1]


def recorded(**rationales: Any) -> dict[str, dict[str, Any]]:
    return {stage: {"of": stage} for stage in PREVIOUS} | {
        "rationales": {"engine": "e", "grader": 3, "max_attempts": 3} | rationales
    }


def ledger_of(run_dir: Path, made_of: dict[str, dict[str, Any]]) -> Ledger:
    key = stage_keys(made_of)["rationales"]
    name = UnitName(stage="rationales", stage_key=key, unit="t-000000")
    units = {("rationales", name.unit): write_unit(run_dir, name, [], Rationale)}
    return Ledger(run_dir=run_dir, writable=False, units=units)


def test_only_the_grader_and_when_asking_ends_may_differ(tmp_path: Path) -> None:
    old = recorded()
    ledger = ledger_of(tmp_path, old)
    assert teaching_difference(ledger, old, old) == ""
    for name in MAY_DIFFER:
        assert teaching_difference(ledger, old, recorded(**{name: 9})) == ""
    assert teaching_difference(ledger, old, recorded(engine="f")) == 'engine: "e" -> "f"'
    assert teaching_difference(ledger, old, recorded(temperature=1)) == "temperature: null -> 1"


def test_a_record_that_is_not_of_its_rationales_carries_nothing_over(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, recorded())
    other = recorded(grader=1)
    assert "does not match" in teaching_difference(ledger, other, other)
    cut = {stage: made_of for stage, made_of in recorded().items() if stage != "selections"}
    assert "selections were made of" in teaching_difference(ledger, cut, recorded())
