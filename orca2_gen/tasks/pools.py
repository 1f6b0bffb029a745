"""Worked examples for few-shot problems: a bounded, seeded pool per group, a draw per problem.

Examples come from the problem's own group: its task (in a mixture, the row's own task), its
category and its answer type. A pool holds each question once and keeps those whose hashes with the
seed are smallest; a problem draws by a hash of the seed and its id. So a problem's examples depend
on the seed and the contents of the task's files, and neither on the order of the rows nor on which
problems are read, sampled or committed beside it.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from hashlib import blake2b, shake_256

from orca2_gen.records import Problem, Rejection, Shot
from orca2_gen.tasks.sampling import rank_of

MAX_POOLED, MIN_POOLED = 1_000, 50
"""Limit of questions in a group's pool, and the limit that it falls to with many groups."""
MAX_POOLED_IN_ALL = 100_000
"""Questions over all groups, unless MIN_POOLED of each are more: a mixture of 2,000 tasks keeps 50
of each. With texts of a kilobyte that takes about 150 MB."""

PoolKey = tuple[str, str, str]
"""The row's own task if a file mixes tasks, its category, its answer type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """The examples that a group offers."""

    shots: tuple[Shot, ...] = ()
    """Examples with different questions, in the seed's order."""
    place_of: Mapping[int, int] = field(default_factory=dict)
    """A question's key -> its place among the shots."""


def pool_key(source_task: str, problem: Problem) -> PoolKey:
    """The group that a problem's examples come from."""
    return source_task, problem.category, problem.answer_type


def question_key(question: str) -> int:
    """64 bits that two questions share if they differ only in case and white space."""
    text = " ".join(question.casefold().split())
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def fill_pools(
    problems: Iterable[tuple[PoolKey, Problem]],
    *,
    seed: int,
    held_out: Set[int],
    fits: Callable[[Problem], bool],
) -> Mapping[PoolKey, Pool]:
    """The Pool of each group.

    Args:
        problems: every accepted problem of the task, sampled or not.
        seed: seed of the task's samples.
        held_out: keys of questions that may not be examples: those of the evaluation.
        fits: whether a problem could be asked by itself; called only for those that would enter a
            pool.
    """
    kept: dict[PoolKey, _Reservoir] = {}
    limit = MAX_POOLED
    for group, problem in problems:
        key = question_key(problem.question)
        if key in held_out:
            continue
        if group not in kept:
            kept[group] = _Reservoir()
            before, limit = limit, _limit(len(kept))
            for reservoir in kept.values() if limit < before else ():
                reservoir.cut(limit)
        kept[group].offer(rank_of(seed, f"{key:x}"), key, problem, limit, fits)
    return {group: reservoir.pool() for group, reservoir in kept.items()}


def _limit(num_groups: int) -> int:
    return max(MIN_POOLED, min(MAX_POOLED, MAX_POOLED_IN_ALL // num_groups))


@dataclass(kw_only=True, slots=True)
class _Reservoir:
    """The questions of a group with the smallest ranks, each from the row with the first id."""

    by_rank: dict[int, tuple[str, int, Shot]] = field(default_factory=dict)
    """Rank -> the row's id, its question's key, the example."""
    ranks: list[int] = field(default_factory=list)
    """Heap of the negated ranks: the largest rank comes first."""

    def offer(
        self, rank: int, key: int, problem: Problem, limit: int, fits: Callable[[Problem], bool]
    ) -> None:
        """Takes the problem in if its rank is among the smallest so far."""
        held = self.by_rank.get(rank)
        if held is None and len(self.ranks) >= limit and rank > -self.ranks[0]:
            return
        if held is not None and held[0] <= problem.problem_id:
            return
        if not fits(problem):
            return
        shot = Shot(question=problem.question, target=problem.target, choices=problem.choices)
        self.by_rank[rank] = problem.problem_id, key, shot
        if held is None:
            heapq.heappush(self.ranks, -rank)
            self.cut(limit)

    def cut(self, limit: int) -> None:
        """Drops all but the smallest ranks."""
        while len(self.ranks) > limit:
            del self.by_rank[-heapq.heappop(self.ranks)]

    def pool(self) -> Pool:
        """The Pool of the remaining questions, in order of rank."""
        held = [self.by_rank[rank] for rank in sorted(self.by_rank)]
        return Pool(
            shots=tuple(shot for _, _, shot in held),
            place_of={key: place for place, (_, key, _) in enumerate(held)},
        )


def with_examples(
    problem: Problem, pool: Pool, *, few_shot: tuple[int, int], seed: int, stage: str
) -> Problem | Rejection:
    """The problem with examples from the pool, none of which asks its own question.

    `few_shot` is the least and the most examples; if the pool has fewer than the least, the result
    is a Rejection.
    """
    least, most = few_shot
    own = pool.place_of.get(question_key(problem.question), len(pool.shots))
    num_others = len(pool.shots) - (own < len(pool.shots))
    if num_others < least:
        return Rejection(
            problem_id=problem.problem_id,
            stage=stage,
            reason="too_few_examples",
            detail=f"expected at least {least} other questions of the same task, category "
            f"{problem.category!a} and answer type {problem.answer_type}, found {num_others} that "
            "can be shown as examples; lower few_shot or leave it out",
        )
    drawn = _draw(num_others, (least, min(most, num_others)), f"{seed}\n{problem.problem_id}")
    shots = tuple(pool.shots[place + (place >= own)] for place in drawn)
    return dataclasses.replace(problem, examples=shots)


def _draw(num: int, bounds: tuple[int, int], key: str) -> list[int]:
    """Between least and most different numbers below num, in shuffled order."""
    least, most = bounds
    body = shake_256(key.encode()).digest(8 * (most + 1))
    words = [int.from_bytes(body[at : at + 8], "big") for at in range(0, len(body), 8)]
    moved: dict[int, int] = {}
    drawn = []
    for place in range(least + words[0] % (most - least + 1)):
        other = place + words[place + 1] % (num - place)
        drawn.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return drawn
