from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.records import Selection, StrategySummary, StudentScore
from orca2_gen.selection import (
    Block,
    Group,
    Rule,
    blocks,
    choose,
    next_step,
    permutation,
    summarise,
    wilson_interval,
)
from orca2_gen.strategies import STRATEGY_NAMES

RULE = Rule(
    policy="student_best",
    strategies=STRATEGY_NAMES[:3],
    scored_problems=10,
    block_size=4,
    indifference=0.0,
    none_solved="direct_answer",
    run_seed=0,
)
OUTCOMES = ("correct", "incorrect", "truncated", "unparsed", "ungraded")

rules = st.builds(
    dataclasses.replace,
    st.just(RULE),
    strategies=st.integers(1, 6).map(lambda n: STRATEGY_NAMES[:n]),
    scored_problems=st.integers(1, 40),
    block_size=st.integers(1, 16),
    indifference=st.sampled_from([0.0, 0.05, 0.3]),
    none_solved=st.sampled_from(STRATEGY_NAMES),
    run_seed=st.integers(0, 99),
)
groups = st.builds(
    Group, name=st.sampled_from(["sums", "letters"]), num_problems=st.integers(1, 60)
)


def score_of(problem: int, strategy: str, outcome: str, tokens: int) -> StudentScore:
    return StudentScore(
        problem_id=f"sums/train/{problem}",
        task="sums",
        strategy=strategy,
        role="student",
        attempt=0,
        outcome=outcome,
        score=float(outcome == "correct"),
        answer="",
        text="",
        finish_reason="stop",
        num_prompt_tokens=1,
        num_cached_tokens=0,
        num_completion_tokens=tokens,
    )


def draw_scores(data: st.DataObject, block: Block) -> list[StudentScore]:
    cells = [(problem, strategy) for strategy in block.strategies for problem in block.problems]
    drawn = data.draw(
        st.lists(
            st.tuples(st.sampled_from(OUTCOMES), st.integers(1, 9)),
            min_size=len(cells),
            max_size=len(cells),
        )
    )
    return [score_of(p, s, o, t) for (p, s), (o, t) in zip(cells, drawn, strict=True)]


def decide(group: Group, rule: Rule, scored: Mapping[int, Sequence[StudentScore]]) -> Selection:
    step = next_step(group, rule, scored)
    assert isinstance(step, Selection)
    return step


@given(group=groups, rule=rules)
def test_blocks_partition_the_permutation(group: Group, rule: Rule) -> None:
    found = blocks(group, rule)
    order = [problem for block in found for problem in block.problems]
    assert order == permutation(group, rule)
    assert len(set(order)) == len(order) == min(group.num_problems, rule.scored_problems)
    assert set(order) <= set(range(group.num_problems))
    assert [block.index for block in found] == list(range(len(found)))
    assert all(1 <= len(block.problems) <= rule.block_size for block in found)


@given(group=groups, one=rules, two=rules)
def test_the_permutation_depends_on_seed_and_group_only(group: Group, one: Rule, two: Rule) -> None:
    two = dataclasses.replace(two, run_seed=one.run_seed)
    shared = min(one.scored_problems, two.scored_problems)
    assert permutation(group, one)[:shared] == permutation(group, two)[:shared]


def test_another_seed_or_group_is_another_permutation() -> None:
    group, other = Group(name="sums", num_problems=50), Group(name="letters", num_problems=50)
    rule = dataclasses.replace(RULE, scored_problems=50)
    reseeded = dataclasses.replace(rule, run_seed=1)
    orders = [permutation(group, rule), permutation(other, rule), permutation(group, reseeded)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(group=groups, rule=rules, data=st.data())
def test_every_block_is_returned_until_committed_and_then_a_selection(
    group: Group, rule: Rule, data: st.DataObject
) -> None:
    scored: dict[int, list[StudentScore]] = {}
    wanted = blocks(group, rule)
    for block in data.draw(st.permutations(wanted)):
        step = next_step(group, rule, scored)
        assert step == min((b for b in wanted if b.index not in scored), key=lambda b: b.index)
        scored[block.index] = draw_scores(data, block)
    selection = decide(group, rule, scored)
    assert selection.num_scored_problems == min(group.num_problems, rule.scored_problems)
    assert [s.strategy for s in selection.summaries] == list(rule.strategies)
    in_order = {index: scored[index] for index in sorted(scored)}
    assert decide(group, rule, in_order) == selection


@given(group=groups, rule=rules, data=st.data())
def test_the_winner_is_the_cheapest_of_those_within_indifference_of_the_highest_mean(
    group: Group, rule: Rule, data: st.DataObject
) -> None:
    scored = {block.index: draw_scores(data, block) for block in blocks(group, rule)}
    selection = decide(group, rule, scored)
    by_name = {s.strategy: s for s in selection.summaries}
    best = max(s.mean for s in selection.summaries)
    if best == 0.0:
        assert (selection.strategy, selection.reason, selection.tied) == (
            rule.none_solved,
            "none_solved",
            (),
        )
        return
    winner = by_name[selection.strategy]
    assert winner.mean >= best - rule.indifference - 1e-6
    tied = [s for s in selection.summaries if s.mean > best - rule.indifference + 1e-6] + [winner]
    assert winner.mean_completion_tokens == min(s.mean_completion_tokens for s in tied)
    assert {s.strategy for s in tied} <= set(selection.tied)
    assert selection.reason == ("highest_mean" if len(selection.tied) == 1 else "fewest_tokens")


@given(group=groups, rule=rules, data=st.data())
def test_fragile_exactly_when_forgiving_unjudged_cells_changes_the_winner(
    group: Group, rule: Rule, data: st.DataObject
) -> None:
    scored = {block.index: draw_scores(data, block) for block in blocks(group, rule)}
    forgiven = {
        index: [
            s if s.outcome == "incorrect" else dataclasses.replace(s, outcome="correct", score=1.0)
            for s in scores
        ]
        for index, scores in scored.items()
    }
    changed = decide(group, rule, forgiven).strategy != decide(group, rule, scored).strategy
    assert decide(group, rule, scored).fragile == changed
    assert not decide(group, rule, forgiven).fragile


@given(
    group=groups,
    rule=rules,
    policy=st.sampled_from(["random", *(f"fixed:{name}" for name in STRATEGY_NAMES)]),
)
def test_fixed_and_random_need_no_scores(group: Group, rule: Rule, policy: str) -> None:
    rule = dataclasses.replace(rule, policy=policy)
    assert blocks(group, rule) == []
    selection = decide(group, rule, {})
    assert selection == decide(group, rule, {})
    assert selection.num_scored_problems == 0 and not selection.fragile
    if policy == "random":
        assert selection.strategy in rule.strategies
    else:
        assert selection.strategy == policy.removeprefix("fixed:")


def test_random_takes_every_strategy_for_some_group() -> None:
    rule = dataclasses.replace(RULE, policy="random")
    chosen = {decide(Group(name=f"task{n}", num_problems=5), rule, {}).strategy for n in range(60)}
    assert chosen == set(rule.strategies)


def test_a_lone_strategy_wins_once_it_solves_anything() -> None:
    rule = dataclasses.replace(RULE, strategies=("step_by_step",), block_size=64)
    group = Group(name="sums", num_problems=3)
    selection = decide(
        group, rule, {0: [score_of(n, "step_by_step", "correct", 4) for n in range(3)]}
    )
    assert (selection.strategy, selection.reason, selection.tied) == (
        "step_by_step",
        "highest_mean",
        ("step_by_step",),
    )


@given(rule=rules, num=st.integers(1, 15))
def test_a_group_smaller_than_a_block_is_one_block(rule: Rule, num: int) -> None:
    assume(num <= min(rule.block_size, rule.scored_problems))
    [block] = blocks(Group(name="sums", num_problems=num), rule)
    assert sorted(block.problems) == list(range(num))


@given(num=st.integers(0, 500), data=st.data())
def test_the_wilson_interval_holds_the_mean_and_lies_in_the_unit_interval(
    num: int, data: st.DataObject
) -> None:
    mean = data.draw(st.integers(0, num)) / num if num else 0.0
    low, high = wilson_interval(mean, num)
    assert 0.0 <= low <= mean <= high <= 1.0


@given(outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=30))
def test_a_summary_counts_every_cell_once(outcomes: list[str]) -> None:
    summary = summarise(
        "step_by_step", [score_of(n, "step_by_step", o, 2) for n, o in enumerate(outcomes)]
    )
    assert summary.num_scored == len(outcomes)
    assert round(summary.mean * len(outcomes)) == outcomes.count("correct")
    counts = summary.num_truncated, summary.num_unparsed, summary.num_ungraded
    assert counts == tuple(outcomes.count(word) for word in OUTCOMES[2:])


@pytest.mark.parametrize(
    ("indifference", "expected"), [(0.0, "step_by_step"), (0.1, "direct_answer")]
)
def test_indifference_gives_the_task_to_the_cheaper_strategy(
    indifference: float, expected: str
) -> None:
    def summary(name: str, mean: float, tokens: float) -> StrategySummary:
        return dataclasses.replace(
            summarise(name, []), mean=mean, mean_completion_tokens=tokens, num_scored=100
        )

    found = [summary("direct_answer", 0.5, 3.0), summary("step_by_step", 0.6, 90.0)]
    assert choose(found, dataclasses.replace(RULE, indifference=indifference))[0] == expected
