from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.records import Selection, StrategySummary, StudentScore
from orca2_gen.selection.blocks import (
    Block,
    Group,
    Rule,
    most_blocks,
    num_in_block,
    open_blocks,
    permutation,
)
from orca2_gen.selection.decision import choose, next_step, summarise, survivors, wilson_interval
from orca2_gen.strategies import CAUTIOUS
from tests.conftest import STRATEGY_NAMES
from tests.selection.test_blocks import RULE, blocks, groups, races, rules

OUTCOMES = ("correct", "incorrect", "truncated", "unparsed", "ungraded")


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
    arms = [*rule.strategies, CAUTIOUS] if rule.cautious_arm else list(rule.strategies)
    assert [s.strategy for s in selection.summaries] == arms
    assert all(s.fell_in_block == -1 and not s.fell_to for s in selection.summaries)
    in_order = {index: scored[index] for index in sorted(scored)}
    assert decide(group, rule, in_order) == selection


@given(group=groups, rule=races, surplus=st.integers(1, 80))
def test_a_block_longer_than_its_rule_says_is_not_taken(
    group: Group, rule: Rule, surplus: int
) -> None:
    """It is one of another group's size, or of another number of groups."""
    step = next_step(group, rule, {})
    assume(isinstance(step, Block))
    assert isinstance(step, Block)
    longer = dataclasses.replace(step, problems=(*step.problems, *range(1000, 1000 + surplus)))
    rows = [score_of(p, s, "correct", 1) for s in longer.strategies for p in longer.problems]
    assert next_step(group, rule, {0: rows}) == step
    assert survivors(group, rule, {0: rows}) == rule.strategies


@given(group=groups, rule=rules, data=st.data())
def test_the_winner_is_the_cheapest_of_those_within_indifference_of_the_highest_mean(
    group: Group, rule: Rule, data: st.DataObject
) -> None:
    scored = {block.index: draw_scores(data, block) for block in blocks(group, rule)}
    selection = decide(group, rule, scored)
    by_name = {s.strategy: s for s in selection.summaries if s.strategy != CAUTIOUS}
    best = max(s.mean for s in by_name.values())
    if best == 0.0:
        assert (selection.strategy, selection.reason, selection.tied) == (
            rule.none_solved,
            "none_solved",
            (),
        )
        return
    winner = by_name[selection.strategy]
    assert winner.mean >= best - rule.indifference - 1e-6
    tied = [s for s in by_name.values() if s.mean > best - rule.indifference + 1e-6] + [winner]
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


def with_ending(score: StudentScore, tokens: int = 3) -> StudentScore:
    """The score with a forced ending of so many tokens."""
    made = dataclasses.replace(score.completion, call=1, num_completion_tokens=tokens)
    return dataclasses.replace(score, ending=(made,))


@given(group=groups, rule=rules, data=st.data())
def test_fragile_also_exactly_when_forced_cells_as_wrong_change_the_winner(
    group: Group, rule: Rule, data: st.DataObject
) -> None:
    scored = {
        block.index: [
            with_ending(score) if data.draw(st.booleans()) else score
            for score in draw_scores(data, block)
        ]
        for block in blocks(group, rule)
    }

    def winner(change: Callable[[StudentScore], StudentScore]) -> str:
        return decide(group, rule, {i: list(map(change, s)) for i, s in scored.items()}).strategy

    def forgiven(score: StudentScore) -> StudentScore:
        is_judged = score.outcome in ("correct", "incorrect")
        return score if is_judged else dataclasses.replace(score, score=1.0)

    def unforced(score: StudentScore) -> StudentScore:
        return dataclasses.replace(score, score=0.0) if score.is_forced else score

    selection = decide(group, rule, scored)
    others = {winner(forgiven), winner(unforced)}
    assert selection.fragile == (others != {selection.strategy})
    for summary in selection.summaries:
        cells = [s for each in scored.values() for s in each if s.strategy == summary.strategy]
        assert summary.num_forced == sum(cell.is_forced for cell in cells)
        undecided = summary.num_truncated + summary.num_unparsed + summary.num_ungraded
        assert summary.num_forced + undecided <= summary.num_scored


def test_the_tokens_of_endings_count_where_strategies_tie() -> None:
    cells = [score_of(number, "step_by_step", "correct", 5) for number in range(4)]
    plain = summarise("step_by_step", cells)
    ended = summarise("step_by_step", [with_ending(cells[0], 8), *cells[1:]])
    assert (plain.mean_completion_tokens, ended.mean_completion_tokens) == (5.0, 7.0)
    unread = dataclasses.replace(with_ending(cells[0], 8), ending_is_unread=True)
    found = summarise("step_by_step", [unread, *cells[1:]])
    assert (found.mean_completion_tokens, found.num_forced) == (5.0, 0)


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
    found = [Group(name=f"task{n}", num_problems=5, num_groups=60) for n in range(60)]
    assert {decide(group, rule, {}).strategy for group in found} == set(rule.strategies)


def test_a_lone_strategy_wins_once_it_solves_anything() -> None:
    rule = dataclasses.replace(RULE, strategies=("step_by_step",), block_size=64)
    group = Group(name="sums", num_problems=3, num_groups=2)
    selection = decide(
        group, rule, {0: [score_of(n, "step_by_step", "correct", 4) for n in range(3)]}
    )
    assert (selection.strategy, selection.reason, selection.tied) == (
        "step_by_step",
        "highest_mean",
        ("step_by_step",),
    )


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
    assert choose(found, dataclasses.replace(RULE, indifference=indifference)).strategy == expected


RACE = dataclasses.replace(RULE, method="race", scored_problems=90, block_size=8, delta=0.2)
SUMS = Group(name="sums", num_problems=120, num_groups=2)


def planted(block: Block, correct: Mapping[str, float]) -> list[StudentScore]:
    """A block's scores: a strategy solves the problems whose number is below its share of 120."""
    return [
        score_of(n, name, "correct" if n < 120 * correct.get(name, 0.5) else "incorrect", 1 + i)
        for i, name in enumerate(block.strategies)
        for n in block.problems
    ]


def raced(
    rule: Rule, correct: Mapping[str, float], group: Group = SUMS
) -> tuple[dict[int, list[StudentScore]], Selection]:
    """All blocks that a race asks for, and what it selects."""
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(group, rule, scored)
    while isinstance(step, Block):
        assert step.index == len(scored)
        scored[step.index] = planted(step, correct)
        step = next_step(group, rule, scored)
    return scored, step


shares = st.dictionaries(st.sampled_from(STRATEGY_NAMES), st.integers(0, 20).map(lambda n: n / 20))


@given(rule=races, correct=shares, group=groups)
def test_a_race_asks_what_its_receipts_say(
    rule: Rule, correct: Mapping[str, float], group: Group
) -> None:
    """The driver knows each block from the survivors alone, and asks no cell twice."""
    scored, selection = raced(rule, correct, group)
    left: dict[int, tuple[str, ...]] = {}
    first = 0
    for index in range(len(scored)):
        [block] = open_blocks(group, rule, left)
        assert block == next_step(group, rule, {i: scored[i] for i in range(index)})
        size = num_in_block(group, rule, len(set(block.strategies) - {CAUTIOUS}))
        assert block.problems == permutation(group, rule)[first : first + size]
        first += size
        left[index] = survivors(group, rule, {i: scored[i] for i in range(index + 1)})
        asked = set(block.strategies) - {CAUTIOUS}
        assert left[index] and set(left[index]) <= asked
        assert (CAUTIOUS in block.strategies) == rule.cautious_arm
    assert open_blocks(group, rule, left) == []
    assert len(scored) <= most_blocks(group, rule)
    assert sum(s.num_scored for s in selection.summaries) == sum(map(len, scored.values()))


@given(rule=races, correct=shares, group=groups)
def test_a_race_without_risk_selects_what_the_grid_selects(
    rule: Rule, correct: Mapping[str, float], group: Group
) -> None:
    assume(len(rule.strategies) > 1)
    rule = dataclasses.replace(rule, delta=1e-290)
    grid = dataclasses.replace(rule, method="full_grid")
    cells = {block.index: planted(block, correct) for block in blocks(group, grid)}
    _, found = raced(rule, correct, group)
    expected = decide(group, grid, cells)
    if found.reason != "nearly_best" and expected.reason != "fewest_tokens":
        assert found.strategy == expected.strategy
    best = max(s.mean for s in expected.summaries if s.strategy != CAUTIOUS)
    if best > 0:
        mean = next(s.mean for s in expected.summaries if s.strategy == found.strategy)
        assert mean >= best - rule.indifference - 1e-9


def test_a_selection_says_where_and_why_each_strategy_fell() -> None:
    direct, steps, recall = RACE.strategies
    scored, selection = raced(RACE, {direct: 0.1, steps: 0.95, recall: 0.2})
    assert (selection.strategy, selection.reason) == (steps, "race")
    assert (selection.method, selection.delta) == ("race", 0.2)
    by_name = {s.strategy: s for s in selection.summaries}
    assert by_name[steps].fell_in_block == -1 and not by_name[steps].fell_by
    for name in (direct, recall):
        assert by_name[name].fell_to == steps and by_name[name].fell_by in ("bet", "certain")
        assert by_name[name].num_scored == 8 * (by_name[name].fell_in_block + 1)
    assert len(scored) == 1 + max(s.fell_in_block for s in selection.summaries)
    assert selection.num_scored_problems == 8 * len(scored) < 90


def test_the_cautious_arm_is_scored_and_cannot_win() -> None:
    rule = dataclasses.replace(RACE, cautious_arm=True)
    direct, steps, recall = rule.strategies
    shares = {direct: 0.0, steps: 0.3, recall: 0.0, CAUTIOUS: 1.0}
    selection = raced(rule, shares)[1]
    assert selection.strategy == steps
    assert selection.summaries[-1].strategy == CAUTIOUS and selection.summaries[-1].mean == 1.0
    without = raced(RACE, shares)[1]
    assert without.summaries == selection.summaries[:-1]
    grid = dataclasses.replace(rule, method="full_grid")
    cells = {block.index: planted(block, shares) for block in blocks(SUMS, grid)}
    assert decide(SUMS, grid, cells).strategy == steps


def test_a_race_that_nobody_solves_is_the_stated_policy_after_all_problems() -> None:
    _, selection = raced(RACE, dict.fromkeys(STRATEGY_NAMES, 0.0))
    assert (selection.strategy, selection.reason) == (RACE.none_solved, "none_solved")
    assert selection.num_scored_problems == 90


def test_a_race_of_one_is_over_before_it_starts() -> None:
    rule = dataclasses.replace(RACE, strategies=("step_by_step",))
    scored, selection = raced(rule, {})
    assert not scored
    assert (selection.strategy, selection.reason) == ("step_by_step", "only_strategy")


def test_indifference_lets_a_race_end_between_equals_with_the_cheaper_one() -> None:
    rule = dataclasses.replace(RACE, indifference=0.2, strategies=STRATEGY_NAMES[:2])
    scored, selection = raced(rule, dict.fromkeys(STRATEGY_NAMES, 0.6))
    assert (selection.strategy, selection.reason) == (STRATEGY_NAMES[0], "nearly_best")
    assert selection.tied == rule.strategies
    assert selection.num_scored_problems < 90
    assert survivors(SUMS, rule, scored) == (STRATEGY_NAMES[0],)


def test_a_race_is_fragile_where_forgiving_would_have_kept_one_in() -> None:
    steps = RACE.strategies[1]

    def cells(block: Block, outcome: str) -> list[StudentScore]:
        return [
            score_of(n, name, "correct" if name == steps else outcome, 3)
            for name in block.strategies
            for n in block.problems
        ]

    for outcome, fragile in (("incorrect", False), ("truncated", True)):
        scored: dict[int, list[StudentScore]] = {}
        step = next_step(SUMS, RACE, scored)
        while isinstance(step, Block):
            scored[step.index] = cells(step, outcome)
            step = next_step(SUMS, RACE, scored)
        assert step.strategy == steps and step.fragile == fragile


def test_a_problem_lost_with_its_engine_leaves_the_race_under_all_strategies() -> None:
    direct, steps, recall = RACE.strategies
    shares = {direct: 0.1, steps: 0.95, recall: 0.2}
    scored, selection = raced(RACE, shares)
    lost = scored[0][0].problem_id
    scored[0] = [s for s in scored[0] if s.problem_id != lost]
    after = next_step(SUMS, RACE, scored)
    assert isinstance(after, Selection) and after.strategy == selection.strategy
    nums = {s.strategy: s.num_scored for s in after.summaries}
    assert nums == {s.strategy: s.num_scored - 1 for s in selection.summaries}
    everything_lost = {0: [], 1: []}
    step = next_step(SUMS, RACE, everything_lost)
    assert isinstance(step, Block) and step.index == 2 and step.strategies == RACE.strategies


def test_a_few_unjudged_cells_behind_a_clear_lead_make_no_race_fragile() -> None:
    direct, steps, recall = RACE.strategies
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(SUMS, RACE, scored)
    while isinstance(step, Block):
        cells = planted(step, {direct: 0.3, steps: 0.9, recall: 0.35})
        wrong = [score for score in cells if score.outcome == "incorrect"]
        cut = {(s.problem_id, s.strategy) for s in wrong[::8]}
        scored[step.index] = [
            dataclasses.replace(s, outcome="truncated") if (s.problem_id, s.strategy) in cut else s
            for s in cells
        ]
        step = next_step(SUMS, RACE, scored)
    assert step.strategy == steps and any(s.num_truncated for s in step.summaries)
    assert {s.fell_to for s in step.summaries if s.fell_to} == {steps}
    assert not step.fragile


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


def test_a_score_that_is_no_number_counts_nothing_and_is_ungraded() -> None:
    scores = [score_of(n, "step_by_step", "correct", 2) for n in range(4)]
    scores[1] = dataclasses.replace(scores[1], outcome="ungraded", score=math.nan)
    summary = summarise("step_by_step", scores)
    assert (summary.mean, summary.num_scored, summary.num_ungraded) == (0.75, 4, 1)
