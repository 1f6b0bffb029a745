"""Committed scores -> the next block to score, or a Selection. Pure: no engine, no file, no clock.

Under the method `race` a strategy is out once it cannot be the winner of all N problems
(selection/race.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orca2_gen.records import Selection, StrategySummary, StudentScore
from orca2_gen.selection.blocks import Block, Group, Rule, block, draws, num_in_block, permutation
from orca2_gen.selection.race import (
    ROUNDING,
    Fall,
    Floats,
    Standing,
    Terms,
    advance,
    nearly_best,
    start,
)
from orca2_gen.strategies import CAUTIOUS

Scored = Mapping[int, Sequence[StudentScore]]
"""Committed blocks by index, each with all its scores, strategy by strategy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A chosen strategy, the reason, and the strategies that are as good, itself included."""

    strategy: str
    reason: str
    tied: tuple[str, ...] = ()


def survivors(group: Group, rule: Rule, scored: Scored) -> tuple[str, ...]:
    """The strategies still in after these blocks; a single one if the race has chosen it."""
    followed = _follow(group, rule, scored)
    if followed.choice is not None and followed.choice.reason == "nearly_best":
        return (followed.choice.strategy,)
    return followed.standing.names


def survivor_bits(group: Group, rule: Rule, scored: Scored) -> int:
    """The strategies still in after these blocks, all of the race so far, as bits of SURVIVORS."""
    left = survivors(group, rule, scored)
    return sum(1 << bit for bit, name in enumerate(rule.strategies) if name in left)


def next_step(group: Group, rule: Rule, scored: Scored) -> Block | Selection:
    """The first block that is not committed yet, or the Selection if no more are needed."""
    if not rule.needs_scores:
        choice = _unscored_choice(group, rule)
        return _selection(group, rule, choice, start(rule.strategies), [])
    followed = _follow(group, rule, scored)
    if followed.choice is None:
        first, num_blocks = sum(followed.sizes), len(followed.sizes)
        return block(group, rule, num_blocks, first, followed.standing.names)
    cells = [score for index in range(len(followed.sizes)) for score in scored[index]]
    selection = _selection(group, rule, followed.choice, followed.standing, cells)
    others = ([_forgiven(s) for s in cells], [_unforced(s) for s in cells])
    fragile = any(_is_fragile(selection, rule, followed.standing, other) for other in others)
    return dataclasses.replace(selection, fragile=fragile)


def choose(summaries: Sequence[StrategySummary], rule: Rule) -> Choice:
    """The strategy of the highest mean; ties go to the fewest mean tokens, then to file order."""
    best = max(s.mean for s in summaries)
    if best <= 0.0:
        return Choice(strategy=rule.none_solved, reason="none_solved")
    tied = [s for s in summaries if s.mean >= best - rule.indifference - ROUNDING]
    winner = min(tied, key=lambda s: s.mean_completion_tokens)
    return Choice(
        strategy=winner.strategy,
        reason="highest_mean" if len(tied) == 1 else "fewest_tokens",
        tied=tuple(s.strategy for s in tied),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Followed:
    """The state that committed blocks lead to."""

    standing: Standing
    choice: Choice | None
    """None while the group is open."""
    sizes: tuple[int, ...]
    """Problems in each of the blocks that count."""


def _follow(group: Group, rule: Rule, scored: Scored) -> _Followed:
    num_problems = len(permutation(group, rule))
    standing = start(rule.strategies)
    if rule.is_race and len(standing.names) == 1:
        choice = Choice(strategy=standing.names[0], reason="only_strategy")
        return _Followed(standing=standing, choice=choice, sizes=())
    terms = Terms(
        num_problems=num_problems,
        num_strategies=len(rule.strategies),
        delta=rule.delta,
        indifference=rule.indifference,
    )
    seen: dict[str, list[StudentScore]] = {name: [] for name in rule.strategies}
    num_seen = 0
    seen_sizes: tuple[int, ...] = ()
    while num_seen < num_problems and (index := len(seen_sizes)) in scored:
        names, scores = standing.names, scored[index]
        cells = {name: [s for s in scores if s.strategy == name] for name in names}
        if scores and not all(cells.values()):
            break  # these are not the blocks of this rule; verify reports it
        size = num_in_block(group, rule, len(names))
        size = min(size, num_problems - num_seen)
        if max(map(len, cells.values())) > size:
            break  # likewise
        num_seen, seen_sizes = num_seen + size, (*seen_sizes, size)
        for name in names:
            seen[name] += cells[name]
        if rule.is_race and num_seen < num_problems:
            standing = advance(standing, _values(cells, size), terms)
            raced = _raced(standing, seen)
            if raced is not None:
                return _Followed(standing=standing, choice=raced, sizes=seen_sizes)
    if num_seen < num_problems:
        return _Followed(standing=standing, choice=None, sizes=seen_sizes)
    choice = choose([summarise(name, seen[name]) for name in standing.names], rule)
    return _Followed(standing=standing, choice=choice, sizes=seen_sizes)


def _values(cells: Mapping[str, Sequence[StudentScore]], num_problems: int) -> Floats:
    """[S, P] values of a block's cells."""
    # A problem that is lost under all strategies counts 0 for all, so that it favours none.
    values = np.zeros((len(cells), num_problems))
    for row, scores in enumerate(cells.values()):
        values[row, : len(scores)] = [cell_value(score) for score in scores]
    return values


def _raced(standing: Standing, seen: Mapping[str, Sequence[StudentScore]]) -> Choice | None:
    """The choice of a race before all problems are scored; None while it is open."""
    if len(standing.names) == 1:
        return Choice(strategy=standing.names[0], reason="race", tied=standing.names)
    tokens = [summarise(name, seen[name]).mean_completion_tokens for name in standing.names]
    nearly = nearly_best(standing, np.array(tokens))
    if nearly is None:
        return None
    return Choice(strategy=nearly, reason="nearly_best", tied=standing.names)


def _is_fragile(
    selection: Selection, rule: Rule, standing: Standing, others: Sequence[StudentScore]
) -> bool:
    """Whether these other scores choose another strategy, or take away a lead that one fell to.

    Only strategies that never fell are chosen among: the later scores of a fallen one are unknown.
    """
    by_name = {name: [s for s in others if s.strategy == name] for name in rule.strategies}
    last = [summarise(name, by_name[name]) for name in standing.names]
    if choose(last, rule).strategy != selection.strategy and selection.reason != "nearly_best":
        return True
    for fall in standing.falls:
        own = {score.problem_id: cell_value(score) for score in by_name[fall.strategy]}
        lead = [cell_value(s) for s in by_name[fall.to] if s.problem_id in own]
        if sum(lead) - sum(own.values()) <= rule.indifference * len(own) + ROUNDING:
            return True
    return False


def _forgiven(score: StudentScore) -> StudentScore:
    """The score, counted as correct if it has no verdict."""
    is_judged = score.outcome in ("correct", "incorrect") and not math.isnan(score.score)
    return score if is_judged else dataclasses.replace(score, score=1.0)


def _unforced(score: StudentScore) -> StudentScore:
    """The score, counted as wrong if its verdict rests on a forced ending."""
    return dataclasses.replace(score, score=0.0) if score.is_forced else score


def _unscored_choice(group: Group, rule: Rule) -> Choice:
    if rule.policy == "random":
        choice = draws(rule, group.name, "policy").choice(rule.strategies)
        return Choice(strategy=choice, reason="random")
    return Choice(strategy=rule.policy.removeprefix("fixed:"), reason="fixed")


def _selection(
    group: Group, rule: Rule, choice: Choice, standing: Standing, cells: Sequence[StudentScore]
) -> Selection:
    falls = {fall.strategy: fall for fall in standing.falls}
    names = (*rule.strategies, CAUTIOUS) if rule.cautious_arm else rule.strategies
    summaries = tuple(
        summarise(name, [s for s in cells if s.strategy == name], falls.get(name)) for name in names
    )
    return Selection(
        group=group.name,
        policy=rule.policy,
        method=rule.method if rule.needs_scores else "none",
        delta=rule.delta if rule.is_race else 0.0,
        strategy=choice.strategy,
        reason=choice.reason,
        indifference=rule.indifference,
        tied=choice.tied,
        fragile=False,
        num_problems=group.num_problems,
        num_scored_problems=max((s.num_scored for s in summaries), default=0),
        summaries=summaries,
    )


def summarise(
    strategy: str, scores: Sequence[StudentScore], fall: Fall | None = None
) -> StrategySummary:
    """Mean, interval, tokens and outcomes of one strategy's cells, and where and why it fell."""
    num = len(scores)
    mean = sum(cell_value(s) for s in scores) / num if num else 0.0
    low, high = wilson_interval(mean, num)
    outcomes = [s.outcome for s in scores]
    return StrategySummary(
        strategy=strategy,
        num_scored=num,
        mean=mean,
        low=low,
        high=high,
        mean_completion_tokens=sum(s.num_answer_tokens for s in scores) / num if num else 0.0,
        num_truncated=outcomes.count("truncated"),
        num_unparsed=outcomes.count("unparsed"),
        num_ungraded=outcomes.count("ungraded"),
        fell_in_block=fall.block if fall else -1,
        fell_to=fall.to if fall else "",
        fell_by=fall.by if fall else "",
        num_thoughts_cut=sum(s.is_thought_cut for s in scores),
        num_forced=sum(s.is_forced for s in scores),
    )


def cell_value(score: StudentScore) -> float:
    """The value of a cell in a mean: its score, or 0 if that is not a number."""
    return 0.0 if math.isnan(score.score) else score.score


def wilson_interval(mean: float, num: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927).

    It is inside [0, 1] and sound at 0 and 1, where mean +- 2se is not.
    """
    if num == 0:
        return 0.0, 1.0
    centre = (mean + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(mean * (1 - mean) / num + z * z / (4 * num * num))
    # The mean lies inside; at 0 and 1, rounding alone could leave it out.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
