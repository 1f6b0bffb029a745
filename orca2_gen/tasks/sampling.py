"""A seeded sample of a task's rows: those whose ids have the smallest hashes.

A row's rank is a hash of the seed and its problem_id. So a sample depends neither on the order of
the file nor on how it is read, a sample of 100 is part of the sample of 500, every row is equally
likely, and rows that share an id are drawn together.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row that may be drawn."""

    ordinal: int
    """Place in reading order."""
    rank: int
    task: str
    category: str
    is_bad: bool
    """Whether it cannot become a problem; such a row has no readable task or category."""
    is_copy: bool = False
    """Whether it repeats another row. Copies that come before a row that is drawn are drawn with
    it, to be rejected, and take nobody's place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortfall:
    """A task or a category that gave fewer problems than asked for."""

    group: str
    """`task` or `category`, and its name if it has one."""
    asked: int
    held: int
    """Rows that it has, copies apart: fewer than asked for, or enough, with some of those drawn
    rejected."""
    rejected: int

    @property
    def sentence(self) -> str:
        """One sentence: the number asked for, the number that came, and why."""
        got = min(self.asked, self.held) - self.rejected
        drawn = f"it holds {self.held} rows" if self.held < self.asked else f"{self.asked} drawn"
        refused = f", {self.rejected} rejected" if self.rejected else ""
        return f"{self.group}: asked {self.asked}, got {got}: {drawn}{refused}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The rows that were drawn, and the groups that fell short."""

    ordinals: frozenset[int]
    num_rows: int
    shortfalls: tuple[Shortfall, ...]

    @property
    def num_passed_over(self) -> int:
        return self.num_rows - len(self.ordinals)


def rank_of(seed: int, problem_id: str) -> int:
    """The place of a row in the seeded order."""
    return int.from_bytes(blake2b(f"{seed}\n{problem_id}".encode(), digest_size=12).digest(), "big")


def draw(
    candidates: Iterable[Candidate], *, rows_per_task: int | None, rows_per_category: int | None
) -> Sample:
    """The sample: the first rows of each task by rank, and of those the first of each category.

    Copies are no part of any quota: it is filled by other rows as long as there are some. Held in
    memory: the candidates drawn from each task (or category, if tasks have no limit), its copies,
    and a count for each. A row that cannot be read has neither name, and is drawn among the rows
    that have none.
    """
    num_rows = 0

    def counted() -> Iterator[Candidate]:
        nonlocal num_rows
        for candidate in candidates:
            num_rows += 1
            yield candidate

    kept: Iterable[Candidate] = counted()
    quotas = []
    if rows_per_task is not None:
        quotas.append(_Quota(word="task", asked=rows_per_task, name=lambda c: c.task))
    if rows_per_category is not None:
        quotas.append(_Quota(word="category", asked=rows_per_category, name=lambda c: c.category))
    counts = []
    for quota in quotas:
        kept, held = _smallest(kept, quota)
        counts.append((quota, held))
    drawn = sorted(kept, key=lambda c: c.ordinal)
    return Sample(
        ordinals=frozenset(c.ordinal for c in drawn),
        num_rows=num_rows,
        shortfalls=tuple(
            short
            for quota, held in counts
            for short in _shortfalls(quota, held, drawn, is_last=quota is quotas[-1])
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Quota:
    word: str
    asked: int
    name: Callable[[Candidate], str]


def _smallest(
    candidates: Iterable[Candidate], quota: _Quota
) -> tuple[list[Candidate], Counter[str]]:
    """The first rows of each group by rank, and the number of rows of each group, copies apart."""
    heaps: dict[str, list[tuple[int, int, Candidate]]] = {}
    copies: dict[str, list[tuple[int, int, Candidate]]] = {}
    held: Counter[str] = Counter()
    for candidate in candidates:
        group = quota.name(candidate)
        if candidate.is_copy:
            entry = (-candidate.rank, -candidate.ordinal, candidate)
            copies.setdefault(group, []).append(entry)
            continue
        held[group] += 1
        heap = heaps.setdefault(group, [])
        entry = (-candidate.rank, -candidate.ordinal, candidate)
        if len(heap) < quota.asked:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
    kept = [entry[2] for heap in heaps.values() for entry in heap]
    for group, found in copies.items():
        heap = heaps.get(group, [])
        is_full = len(heap) == quota.asked
        kept += [entry[2] for entry in found if not is_full or entry > heap[0]]
    return kept, held


def _shortfalls(
    quota: _Quota, held: Counter[str], drawn: list[Candidate], *, is_last: bool
) -> Iterator[Shortfall]:
    """The groups that fell short; rejections are reported once, under the last limit."""
    rejected: Counter[str] = Counter()
    ranks: set[int] = set()
    for candidate in drawn if is_last else ():
        if candidate.is_copy:
            continue
        # Equal ranks mean equal ids: all but the first are rejected as duplicates.
        rejected[quota.name(candidate)] += candidate.is_bad or candidate.rank in ranks
        if not candidate.is_bad:
            ranks.add(candidate.rank)
    for group, num_held in sorted(held.items()):
        if num_held < quota.asked or rejected[group]:
            yield Shortfall(
                group=f"{quota.word} {group!a}" if group else quota.word,
                asked=quota.asked,
                held=num_held,
                rejected=rejected[group],
            )
