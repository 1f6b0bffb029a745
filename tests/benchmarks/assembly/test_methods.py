from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.assembly.ground import SAMPLES, Ground
from benchmarks.assembly.methods import _score, chosen, first_accepted, grid_prompts
from orca2_gen.records import Selection
from orca2_gen.selection.blocks import Group
from orca2_gen.selection.decision import next_step
from tests.benchmarks.assembly.grounds import GROUPS, ground_of, problem, reply_to, right, wrong


@pytest.fixture(scope="module")
def ground() -> Ground:
    return ground_of(4, 4)


def test_a_grid_asks_every_scored_problem_once_under_every_strategy_greedily() -> None:
    ground = ground_of(5, 3)
    asked = grid_prompts(ground)
    cells = Counter((each.problem.problem_id, each.strategy) for each in asked)
    assert set(cells.values()) == {1}
    assert cells.keys() == {
        (problem(group, number).problem_id, strategy)
        for group in GROUPS
        for number in range(3)
        for strategy in ground.strategies.names
    }
    assert {(each.role, each.attempt, each.sampling.temperature) for each in asked} == {
        ("student", 0, 0.0)
    }


@given(seed=st.integers(0, 10_000))
def test_the_choice_is_that_of_our_own_full_grid(seed: int) -> None:
    ground, draw = ground_of(4, 4), random.Random(seed)
    replies = [
        reply_to(each, draw.choice((right, wrong))(each), draw.randint(1, 20))
        for each in grid_prompts(ground)
    ]
    found = chosen(ground, draw.sample(replies, len(replies)))
    for name in GROUPS:
        group = Group(name=name, num_problems=4, num_groups=2)
        cells = [_score(each) for each in replies if each.asked.problem.task == name]
        selection = next_step(group, replace(ground.rule, method="full_grid"), {0: cells})
        assert isinstance(selection, Selection)
        assert found[name] == selection.strategy


@given(
    verdicts=st.lists(
        st.lists(st.booleans(), min_size=SAMPLES, max_size=SAMPLES), min_size=1, max_size=4
    ),
    order=st.randoms(use_true_random=False),
)
def test_a_problem_has_one_row_and_it_is_its_earliest_right_attempt(
    ground: Ground, verdicts: list[list[bool]], order: random.Random
) -> None:
    replies = []
    for number, attempts in enumerate(verdicts):
        for attempt, is_right in enumerate(attempts):
            asked = ground.asked(problem("add", number), "teacher", "step_by_step", attempt)
            replies.append(reply_to(asked, (right if is_right else wrong)(asked)))
    order.shuffle(replies)
    rows = {row.problem_id: row for row in first_accepted(ground, replies)}
    assert rows.keys() == {
        problem("add", number).problem_id for number, each in enumerate(verdicts) if any(each)
    }
    for number, attempts in enumerate(verdicts):
        if any(attempts):
            assert rows[problem("add", number).problem_id].attempt == attempts.index(True)


def test_a_row_holds_the_cautious_message_and_no_instruction(ground: Ground) -> None:
    asked = ground.asked(problem("add", 3), "teacher", "step_by_step")
    [row] = first_accepted(ground, [reply_to(asked, right(asked))])
    assert [each.role for each in row.messages] == ["system", "user", "assistant"]
    assert row.messages[0].content == ground.strategies.cautious_message
    assert asked.system not in {each.content for each in row.messages}


def test_an_answer_that_took_all_of_its_tokens_is_no_row(ground: Ground) -> None:
    asked = ground.asked(problem("add", 3), "teacher", "step_by_step")
    assert first_accepted(ground, [reply_to(asked, right(asked), asked.max_tokens)]) == ()
    assert len(first_accepted(ground, [reply_to(asked, right(asked), asked.max_tokens - 1)])) == 1


def test_an_answer_that_quotes_the_instruction_is_no_row(ground: Ground) -> None:
    asked = ground.asked(problem("add", 3), "teacher", "step_by_step")
    assert first_accepted(ground, [reply_to(asked, f"{asked.system} {right(asked)}")]) == ()
