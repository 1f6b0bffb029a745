from __future__ import annotations

import dataclasses
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.records import Problem
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.selection.blocks import (
    MOST_IN_BLOCK,
    Block,
    Group,
    Rule,
    block_unit,
    group_name,
    num_in_block,
    open_blocks,
    permutation,
    rows_by_file,
)
from tests.conftest import STRATEGY_NAMES


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


RULE = Rule(
    policy="student_best",
    strategies=STRATEGY_NAMES[:3],
    method="full_grid",
    delta=0.05,
    scored_problems=10,
    block_size=4,
    open_requests=1,
    indifference=0.0,
    none_solved="direct_answer",
    cautious_arm=False,
    run_seed=0,
)

rules = st.builds(
    dataclasses.replace,
    st.just(RULE),
    strategies=st.integers(1, 6).map(lambda n: STRATEGY_NAMES[:n]),
    scored_problems=st.integers(1, 40),
    block_size=st.integers(1, 16),
    indifference=st.sampled_from([0.0, 0.05, 0.3]),
    none_solved=st.sampled_from(STRATEGY_NAMES),
    cautious_arm=st.booleans(),
    run_seed=st.integers(0, 99),
)
groups = st.builds(
    Group,
    name=st.sampled_from(["sums", "letters"]),
    num_problems=st.integers(1, 60),
    num_groups=st.integers(1, 9),
)
races = st.builds(
    lambda rule, delta, open_requests: dataclasses.replace(
        rule, method="race", delta=delta, open_requests=open_requests
    ),
    rules,
    st.sampled_from([0.01, 0.3, 0.9]),
    st.sampled_from([1, 40, 300]),
)


def blocks(group: Group, rule: Rule) -> list[Block]:
    """All blocks of a full grid."""
    return open_blocks(group, rule, {})


@given(group=groups, rule=rules)
def test_blocks_partition_the_permutation(group: Group, rule: Rule) -> None:
    found = blocks(group, rule)
    order = [problem for block in found for problem in block.problems]
    assert tuple(order) == permutation(group, rule)
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
    group = Group(name="sums", num_problems=50, num_groups=2)
    other = dataclasses.replace(group, name="letters")
    rule = dataclasses.replace(RULE, scored_problems=50)
    reseeded = dataclasses.replace(rule, run_seed=1)
    orders = [permutation(group, rule), permutation(other, rule), permutation(group, reseeded)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(rule=rules, num=st.integers(1, 15))
def test_a_group_smaller_than_a_block_is_one_block(rule: Rule, num: int) -> None:
    assume(num <= min(rule.block_size, rule.scored_problems))
    [block] = blocks(Group(name="sums", num_problems=num, num_groups=2), rule)
    assert sorted(block.problems) == list(range(num))


@given(
    rule=races,
    num_groups=st.integers(1, 2000),
    strategies=st.integers(1, 6),
    more=st.integers(0, 9),
)
def test_blocks_grow_only_as_far_as_few_groups_would_leave_engines_empty(
    rule: Rule, num_groups: int, strategies: int, more: int
) -> None:
    def size(groups: int, left: int) -> int:
        group = Group(name="sums", num_problems=500, num_groups=groups)
        return num_in_block(group, rule, left)

    found = size(num_groups, strategies)
    assert rule.block_size <= found <= max(rule.block_size, MOST_IN_BLOCK)
    assert size(num_groups + more, strategies) <= found <= size(num_groups, max(1, strategies - 1))
    if found > rule.block_size:  # one problem less would be too few
        assert (found - 1) * strategies * num_groups < rule.open_requests
    if rule.block_size < found < MOST_IN_BLOCK:
        assert found * strategies * num_groups >= rule.open_requests
    grid = dataclasses.replace(rule, method="full_grid")
    group = Group(name="sums", num_problems=500, num_groups=num_groups)
    assert num_in_block(group, grid, strategies) == rule.block_size
