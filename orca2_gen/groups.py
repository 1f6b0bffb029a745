"""Selection groups: the problems that get one strategy together, a task's or a category's."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.records import Problem
from orca2_gen.shards import FileEntry

OPEN = "open"
"""A count in the receipt of a unit of problems: how many of them are open."""

_FILE_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What is selected for, and its accepted problems, by number."""

    name: str
    num_problems: int
    num_groups: int
    """Of its run, itself included: where there are few, each is scored in larger blocks."""
    is_judged: bool = False
    """Whether any of them is open, so that a judge reads its answers before anything is selected;
    then all its strategies are scored."""

    @property
    def stem(self) -> str:
        """What its units' names begin with: its name if that can stand in a file's, else what of it
        can, and a hash.
        """
        if _FILE_SAFE.fullmatch(self.name):
            return self.name
        kept = re.sub("[^A-Za-z0-9]+", "-", self.name).strip("-")[:40]
        return f"{kept}.{hashlib.sha256(self.name.encode()).hexdigest()[:10]}"


def group_name(problem: Problem, select_by: str) -> str:
    """The name of the group that a problem is selected with; its task's where it has no category
    (and, by sub-category, none of those).
    """
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
    """Numbers of problems over a group's files -> files and the rows wanted of each, in the order
    of the numbers, so that a file may come several times: a race rests on the order being random
    (race.py), and a file may hold one kind of problem.
    """
    ends = list(itertools.accumulate(entry.rows for entry in files))
    placed = [(bisect.bisect_right(ends, number), number) for number in numbers]
    return tuple(
        (files[place], tuple(number - ends[place] + files[place].rows for _, number in run))
        for place, run in itertools.groupby(placed, key=lambda each: each[0])
    )
