"""The problems of a group to score, and their blocks: all that is known before any score.

A group (a task, or a category) has N problems that may be scored: at most `scored_problems` of its
own, in a seeded permutation. Block k is the stretch of them after block k - 1, under every strategy
still in. In a race, a block is known once those before it are committed. Under the full grid, all
strategies stay in to the end, so all blocks are known from the start and may run anywhere in any
order.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import itertools
import math
import random
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orca2_gen.records import Problem
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import CAUTIOUS

OPEN = "open"
"""Name of the count of open problems in the receipt of a unit of problems."""
SURVIVORS = "survivors"
"""Count in the receipt of a race's block: bit i is set iff strategy i is still in, so that the
driver finds the next block without reading scores."""

_FILE_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A selection group, with its accepted problems by number."""

    name: str
    num_problems: int
    num_groups: int
    """Groups of its run, itself included; if they are few, each is scored in larger blocks."""
    is_judged: bool = False
    """Whether any of its problems is open, so that a judge reads the answers before anything is
    selected; then all strategies are scored."""

    @property
    def stem(self) -> str:
        """The start of its units' names: its name, or its file-safe part and a hash."""
        if _FILE_SAFE.fullmatch(self.name):
            return self.name
        kept = re.sub("[^A-Za-z0-9]+", "-", self.name).strip("-")[:40]
        return f"{kept}.{hashlib.sha256(self.name.encode()).hexdigest()[:10]}"


def group_name(problem: Problem, select_by: str) -> str:
    """The name of a problem's selection group; its task's if it has no category to select by."""
    if select_by == "task":
        return problem.task
    sub_category = problem.sub_category if select_by == "sub_category" else ""
    return " / ".join(filter(None, (problem.category, sub_category))) or problem.task


def block_unit(group: Group, index: int) -> str:
    """The name of the unit that a block is committed as."""
    return f"{group.stem}-{index:06d}"


def rows_by_file(
    files: Sequence[FileEntry], numbers: Sequence[int]
) -> tuple[tuple[FileEntry, tuple[int, ...]], ...]:
    """Numbers of problems over a group's files -> (file, its rows), in the order of the numbers."""
    ends = list(itertools.accumulate(entry.rows for entry in files))
    # A file may come several times: a race rests on a random order (selection/race.py), and a file
    # may hold one kind of problem.
    placed = [(bisect.bisect_right(ends, number), number) for number in numbers]
    return tuple(
        (files[place], tuple(number - ends[place] + files[place].rows for _, number in run))
        for place, run in itertools.groupby(placed, key=lambda each: each[0])
    )


BLOCKS_VERSION = 1
"""Raise it with every change to which problems make a block, or to their order: part of the stage
keys."""
MOST_IN_BLOCK = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The settings by which scores become a Selection; none says where or when scoring happens."""

    policy: str
    """student_best, teacher_best, random or fixed:STRATEGY."""
    strategies: tuple[str, ...]
    method: Literal["race", "full_grid"]
    delta: float
    """Highest chance that a race differs from its full grid."""
    scored_problems: int
    block_size: int
    open_requests: int
    """Requests in a race; with fewer from all groups together, engines would run empty."""
    indifference: float
    none_solved: str
    cautious_arm: bool
    """Whether the cautious message is scored beside the strategies; it cannot win."""
    run_seed: int

    @property
    def needs_scores(self) -> bool:
        return self.policy in ("student_best", "teacher_best")

    @property
    def is_race(self) -> bool:
        return self.needs_scores and self.method == "race"

    def of(self, group: Group) -> Rule:
        """The rule for one group; a judged group uses the full grid."""
        # A race would have to wait for the judge after every block.
        return dataclasses.replace(self, method="full_grid") if group.is_judged else self


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The problems to be scored next, all under the same system messages."""

    group: str
    index: int
    first: int
    """Problems that are scored in the blocks before it."""
    problems: tuple[int, ...]
    """Numbers of problems in the group's order of reading."""
    strategies: tuple[str, ...]
    """Strategies still in, and `cautious` if it is scored too."""


@functools.lru_cache(maxsize=4096)
def permutation(group: Group, rule: Rule) -> tuple[int, ...]:
    """The numbers of the problems that may be scored, in the order of scoring."""
    order = array("Q", range(group.num_problems))  # a list of millions would take 36 bytes each
    draws(rule, group.name, "permutation").shuffle(order)
    return tuple(order[: rule.scored_problems])


def open_blocks(group: Group, rule: Rule, committed: Mapping[int, tuple[str, ...]]) -> list[Block]:
    """The blocks that can be scored now; none if the group is decided, or needs no scores.

    Args:
        group: the selection group.
        rule: the group's rule.
        committed: index of a committed block -> the `survivors` after it.
    """
    num_problems = len(permutation(group, rule))
    if not rule.needs_scores:
        return []
    if not rule.is_race:
        starts = enumerate(range(0, num_problems, rule.block_size))
        return [
            block(group, rule, index, first, rule.strategies)
            for index, first in starts
            if index not in committed
        ]
    index, first, left = 0, 0, rule.strategies
    while index in committed:
        first += num_in_block(group, rule, len(left))
        index, left = index + 1, committed[index]
    is_decided = first >= num_problems or len(left) == 1
    return [] if is_decided else [block(group, rule, index, first, left)]


def num_in_block(group: Group, rule: Rule, num_strategies: int) -> int:
    """The number of problems in each block but the last: `block_size`, or more in a race.

    Each group in a race has one open block. With few groups or few strategies left, engines would
    run empty, so blocks are larger; that many more problems are scored before a strategy can fall.
    """
    if not rule.is_race:
        return rule.block_size
    share = math.ceil(rule.open_requests / (group.num_groups * num_strategies))
    return max(rule.block_size, min(share, MOST_IN_BLOCK))


def most_blocks(group: Group, rule: Rule) -> int:
    """The highest number of blocks that a group can have."""
    return math.ceil(len(permutation(group, rule)) / rule.block_size)


def block(group: Group, rule: Rule, index: int, first: int, names: tuple[str, ...]) -> Block:
    """The block of this index, which begins at place `first` of the permutation."""
    last = first + num_in_block(group, rule, len(names))
    return Block(
        group=group.name,
        index=index,
        first=first,
        problems=permutation(group, rule)[first:last],
        strategies=(*names, CAUTIOUS) if rule.cautious_arm else names,
    )


def survivors_of(receipt: Receipt, rule: Rule) -> tuple[str, ...]:
    """The strategies still in after a committed block."""
    if not rule.is_race:
        return rule.strategies
    mask = receipt.counts[SURVIVORS]
    return tuple(name for bit, name in enumerate(rule.strategies) if mask >> bit & 1)


def draws(rule: Rule, group: str, purpose: str) -> random.Random:
    """Random numbers for one purpose and group, the same in every run with this seed."""
    digest = hashlib.sha256(f"{rule.run_seed}|{purpose}|{group}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))
