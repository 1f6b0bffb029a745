from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.groups import Group, block_unit, group_name, rows_by_file
from orca2_gen.records import Problem
from orca2_gen.shards import FileEntry


def problem(category: str, sub_category: str) -> Problem:
    return Problem(
        problem_id="sums/train/0",
        task="sums",
        question="2 + 2?",
        target="4",
        answer_type="numeric",
        category=category,
        sub_category=sub_category,
    )


def test_a_problem_is_grouped_by_what_is_asked_for_and_else_by_its_task() -> None:
    found = problem("mathematics", "word problems")
    assert group_name(found, "task") == "sums"
    assert group_name(found, "category") == "mathematics"
    assert group_name(found, "sub_category") == "mathematics / word problems"
    assert group_name(problem("mathematics", ""), "sub_category") == "mathematics"
    assert group_name(problem("", ""), "category") == group_name(problem("", ""), "task")


@given(name=st.text(min_size=1, max_size=120))
def test_a_groups_units_can_be_files_whatever_it_is_called(name: str) -> None:
    stem = Group(name=name, num_problems=1, num_groups=1).stem
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", stem) and not stem.startswith("-")


@given(names=st.sets(st.text(min_size=1, max_size=30), min_size=2, max_size=8))
def test_different_groups_have_different_units(names: set[str]) -> None:
    units = {block_unit(Group(name=name, num_problems=1, num_groups=1), 0) for name in names}
    assert len(units) == len(names)


def test_a_tasks_units_are_called_by_its_name() -> None:
    group = Group(name="gsm8k-main.v2", num_problems=9, num_groups=1)
    assert block_unit(group, 3) == "gsm8k-main.v2-000003"


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_problems_are_taken_in_the_order_of_their_numbers_whatever_file_they_are_in(
    sizes: list[int], data: st.DataObject
) -> None:
    """The race looks at one problem after another; sorted by file, they would come kind by kind."""
    numbers = data.draw(st.permutations(range(sum(sizes))))
    files = [FileEntry(path=str(n), rows=rows, bytes=1, sha256="") for n, rows in enumerate(sizes)]
    first = {entry.path: sum(sizes[:n]) for n, entry in enumerate(files)}
    found = rows_by_file(files, numbers)
    assert [first[entry.path] + row for entry, rows in found for row in rows] == list(numbers)
    assert all(0 <= row < entry.rows for entry, rows in found for row in rows)
