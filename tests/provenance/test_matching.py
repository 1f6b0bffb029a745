from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.prompts import user_text
from orca2_gen.provenance.matching import (
    Matching,
    asked_alike,
    is_asked_alike,
    is_judged_alike,
    match_problems,
    matching_lines,
)
from orca2_gen.records import Problem, Shot
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.strategies import Strategies
from orca2_gen.tasks.read import READER_VERSION

TEXTS = Strategies(
    instructions={"direct_answer": "Answer.", "step_by_step": "Work it out."},
    cautious_message="Take care.",
    answer_sentence=True,
    special_instructions={("step_by_step", "world", ""): "Look at the world first."},
)
NAMES = (*TEXTS.names, "cautious")
BARE = dataclasses.replace(TEXTS, answer_sentence=False)
SHOT = Shot(question="What is 1 + 1?", target="2")


def problem_of(number: int = 0, **changes: Any) -> Problem:
    problem = Problem(
        problem_id=f"sums/train/{number}",
        task="sums",
        question=f"What is {number} + 3?",
        target=str(number + 3),
        answer_type="numeric",
        category="numbers",
        examples=(SHOT,),
    )
    return dataclasses.replace(problem, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "What is 0 + 3 ?"},
        {"examples": ()},
        {"examples": (dataclasses.replace(SHOT, target="3"),)},
        {"choices": ("3", "4")},
        {"answer_type": "yes_no"},
        {"category": "world"},
        {"problem_id": "sums/train/1"},
    ],
)
def test_a_problem_with_other_words_in_its_prompt_is_another_one(changes: dict[str, Any]) -> None:
    assert not is_asked_alike(problem_of(), problem_of(**changes), NAMES, TEXTS)


@pytest.mark.parametrize(
    ("changes", "strategies"),
    [
        ({"target": "4"}, TEXTS),
        ({"other_targets": ("three",)}, TEXTS),
        ({"category": "figures", "sub_category": "small"}, TEXTS),
        ({"answer_type": "yes_no"}, BARE),
    ],
)
def test_a_problem_with_another_gold_or_place_but_the_same_prompt_matches(
    changes: dict[str, Any], strategies: Strategies
) -> None:
    assert is_asked_alike(problem_of(), problem_of(**changes), NAMES, strategies)


WORDS = st.sampled_from(["3", "4", "yes", "a, b", "Which?", ""])
PROBLEMS = st.builds(
    problem_of,
    question=WORDS,
    target=WORDS,
    answer_type=st.sampled_from(["numeric", "exact", "yes_no", "list", "open"]),
    category=st.sampled_from(["numbers", "world"]),
    choices=st.sampled_from([(), ("3", "4"), ("4", "3")]),
    examples=st.lists(st.builds(Shot, question=WORDS, target=WORDS), max_size=2).map(tuple),
)


@given(older=PROBLEMS, problem=PROBLEMS, strategies=st.sampled_from([TEXTS, BARE]))
def test_problems_match_exactly_if_a_model_is_shown_the_same(
    older: Problem, problem: Problem, strategies: Strategies
) -> None:
    shown = [
        (user_text(p, strategies), [strategies.system_message(name, p) for name in NAMES])
        for p in (older, problem)
    ]
    is_alike = is_asked_alike(older, problem, NAMES, strategies)
    assert is_alike == (shown[0] == shown[1])
    found = asked_alike([older], [problem], NAMES, strategies)
    assert found == ({problem.problem_id: (older, problem)} if is_alike else {})


def test_a_judge_sees_the_references_so_another_gold_is_judged_anew() -> None:
    older = problem_of(answer_type="open")
    assert is_judged_alike(older, problem_of(answer_type="open", category="world"))
    for changes in ({"target": "4"}, {"other_targets": ("3",)}, {"question": "What?"}):
        assert not is_judged_alike(older, dataclasses.replace(older, **changes))


def ledger_of(run_dir: Path, groups: dict[str, Sequence[Problem]]) -> Ledger:
    """A run that has read these problems, by selection group, two to a unit."""
    ledger = read_ledger(run_dir, writable=True)
    units = [
        (group, list(problems[first : first + 2]))
        for group, problems in groups.items()
        for first in range(0, len(problems), 2)
    ]
    for number, (group, problems) in enumerate(units):
        name = UnitName(
            stage="problems", stage_key="k", unit=f"sums-{number:06d}", group=group, driver="0"
        )
        ledger.commit([write_unit(run_dir, name, problems, Problem)])
    return ledger


def test_every_problem_is_counted_once_also_one_that_moved_to_another_group(
    tmp_path: Path,
) -> None:
    kept, corrected, reworded, gone, moved, moved_and_reworded = map(problem_of, range(6))
    before = ledger_of(
        tmp_path / "old",
        {"a": [kept, gone, moved, corrected], "b": [moved_and_reworded, reworded]},
    )
    here = {
        "a": [problem_of(9), kept, dataclasses.replace(corrected, target="five")],
        "b": [dataclasses.replace(reworded, question="?")],
        "c": [
            dataclasses.replace(moved, answer_type="exact"),
            dataclasses.replace(moved_and_reworded, question="?"),
        ],
    }
    found = match_problems(before, ledger_of(tmp_path / "new", here), "problems", NAMES, BARE)
    assert found == Matching(
        num_here=6,
        num_older=6,
        num_alike=3,
        num_reworded=2,
        golds={corrected.problem_id: ("4", "five")},
        answer_types={moved.problem_id: ("numeric", "exact")},
        older_groups={"a": {"a"}, "b": {"b"}, "c": {"a", "b"}},
        older_units={
            "sums-000000": {"sums-000000"},
            "sums-000001": {"sums-000001"},
            "sums-000002": {"sums-000002"},
            "sums-000003": {"sums-000001", "sums-000002"},
        },
    )
    assert list(matching_lines(found, "problems", READER_VERSION - 1)) == [
        "problems: 3 of 6 match by id and prompt (in other words: 2, new: 1, only in the older "
        f"run: 1 of 6); readers {READER_VERSION - 1} -> {READER_VERSION}",
        'problems: 1 of 3 have another gold answer: sums/train/1: "4" -> "five"',
        'problems: 1 of 3 have another answer type: sums/train/4: "numeric" -> "exact"',
    ]


@given(num=st.integers(1, 12), num_changed=st.integers(0, 12))
def test_the_golds_that_differ_are_counted_and_the_first_are_shown(
    num: int, num_changed: int
) -> None:
    found = Matching(num_here=num, num_older=num)
    for number in range(num):
        older = problem_of(number)
        target = "other" if number < num_changed else older.target
        found.add(older, dataclasses.replace(older, target=target), is_alike=True)
    line = list(matching_lines(found, "evaluation_problems", READER_VERSION))[1]
    differ = min(num, num_changed)
    assert line.startswith("evaluation problems: ")
    if not differ:
        assert line.endswith("no gold answer differs")
        return
    assert f"{differ} of {num} have another gold answer" in line
    assert line.count(" -> ") == min(differ, 5)
    assert (f"(and {differ - 5} more)" in line) == (differ > 5)
