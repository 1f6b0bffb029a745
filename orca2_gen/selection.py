"""Committed scores -> the next block to score, or a Selection. Pure: no engine, no file, no clock.

A group (a task) has N problems. At most `scored_problems` of them are scored, in a seeded
permutation, in blocks of `block_size`: block k is the k-th run of the permutation under every
strategy still in. Here every strategy stays in to the end (the full grid), so all blocks are known
from the start and may run anywhere in any order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.records import Selection, StrategySummary, StudentScore


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What is selected for: a task and its accepted problems, by number."""

    name: str
    num_problems: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How scores become a Selection; nothing here says where or when scoring happens."""

    policy: str
    """student_best, teacher_best, random or fixed:STRATEGY."""
    strategies: tuple[str, ...]
    scored_problems: int
    block_size: int
    indifference: float
    none_solved: str
    run_seed: int

    @property
    def needs_scores(self) -> bool:
        return self.policy in ("student_best", "teacher_best")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The problems to be scored next, all under the same strategies."""

    group: str
    index: int
    problems: tuple[int, ...]
    """Numbers of problems in the group's order of reading."""
    strategies: tuple[str, ...]


def permutation(group: Group, rule: Rule) -> list[int]:
    """The numbers of the problems that may be scored, in the order in which they are."""
    order = list(range(group.num_problems))
    _random(rule, group.name, "permutation").shuffle(order)
    return order[: rule.scored_problems]


def blocks(group: Group, rule: Rule) -> list[Block]:
    """All blocks of the full grid; none for a policy that needs no scores."""
    if not rule.needs_scores:
        return []
    order = permutation(group, rule)
    starts = range(0, len(order), rule.block_size)
    return [
        Block(
            group=group.name,
            index=i,
            problems=tuple(order[s : s + rule.block_size]),
            strategies=rule.strategies,
        )
        for i, s in enumerate(starts)
    ]


def next_step(
    group: Group, rule: Rule, scored: Mapping[int, Sequence[StudentScore]]
) -> Block | Selection:
    """The first block that is not committed yet, or the Selection if none is open.

    Args:
        group: what is selected for.
        rule: how.
        scored: committed blocks by index, each with all its scores.
    """
    for block in blocks(group, rule):
        if block.index not in scored:
            return block
    scores = [score for index in sorted(scored) for score in scored[index]]
    summaries = tuple(
        summarise(name, [s for s in scores if s.strategy == name]) for name in rule.strategies
    )
    if not rule.needs_scores:
        return _selection(group, rule, *_unscored_choice(group, rule), summaries)
    strategy, reason, tied = choose(summaries, rule)
    as_correct = tuple(summarise(s.strategy, _forgiven(scores, s.strategy)) for s in summaries)
    return _selection(
        group,
        rule,
        strategy,
        reason,
        tied,
        summaries,
        fragile=choose(as_correct, rule)[0] != strategy,
    )


def choose(summaries: Sequence[StrategySummary], rule: Rule) -> tuple[str, str, tuple[str, ...]]:
    """Strategy, reason and ties of the highest mean; ties go to the fewest mean completion tokens,
    then to file order.
    """
    best = max(s.mean for s in summaries)
    if best <= 0.0:
        return rule.none_solved, "none_solved", ()
    # Means are ratios of small integers: a margin far below 1/N only undoes their rounding.
    tied = [s for s in summaries if s.mean >= best - rule.indifference - 1e-9]
    winner = min(tied, key=lambda s: s.mean_completion_tokens)
    reason = "highest_mean" if len(tied) == 1 else "fewest_tokens"
    return winner.strategy, reason, tuple(s.strategy for s in tied)


def summarise(strategy: str, scores: Sequence[StudentScore]) -> StrategySummary:
    """Mean, interval, tokens and outcomes of one strategy's cells; a cell that is not correct
    counts 0.
    """
    num = len(scores)
    mean = sum(s.score for s in scores) / num if num else 0.0
    low, high = wilson_interval(mean, num)
    outcomes = [s.outcome for s in scores]
    return StrategySummary(
        strategy=strategy,
        num_scored=num,
        mean=mean,
        low=low,
        high=high,
        mean_completion_tokens=sum(s.num_completion_tokens for s in scores) / num if num else 0.0,
        num_truncated=outcomes.count("truncated"),
        num_unparsed=outcomes.count("unparsed"),
        num_ungraded=outcomes.count("ungraded"),
    )


def wilson_interval(mean: float, num: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927): inside [0, 1] and sound at 0 and 1, where
    mean +- 2se is not.
    """
    if num == 0:
        return 0.0, 1.0
    centre = (mean + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(mean * (1 - mean) / num + z * z / (4 * num * num))
    # The mean lies inside; rounding alone could leave it out at 0 and 1.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _forgiven(scores: Sequence[StudentScore], strategy: str) -> list[StudentScore]:
    """The strategy's scores with every cell that was not really judged counted as correct."""
    judged = ("correct", "incorrect")
    return [
        s if s.outcome in judged else dataclasses.replace(s, score=1.0)
        for s in scores
        if s.strategy == strategy
    ]


def _unscored_choice(group: Group, rule: Rule) -> tuple[str, str, tuple[str, ...]]:
    if rule.policy == "random":
        choice = _random(rule, group.name, "policy").choice(rule.strategies)
        return choice, "random", ()
    return rule.policy.removeprefix("fixed:"), "fixed", ()


def _selection(
    group: Group,
    rule: Rule,
    strategy: str,
    reason: str,
    tied: tuple[str, ...],
    summaries: tuple[StrategySummary, ...],
    *,
    fragile: bool = False,
) -> Selection:
    return Selection(
        group=group.name,
        policy=rule.policy,
        strategy=strategy,
        reason=reason,
        indifference=rule.indifference,
        tied=tied,
        fragile=fragile,
        num_problems=group.num_problems,
        num_scored_problems=max((s.num_scored for s in summaries), default=0),
        summaries=summaries,
    )


def _random(rule: Rule, group: str, purpose: str) -> random.Random:
    digest = hashlib.sha256(f"{rule.run_seed}|{purpose}|{group}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))
