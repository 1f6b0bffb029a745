from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.engines.cuts import Cuts, range_of, spread
from ray_jobs.engines.suspects import Suspects
from tests.ray_jobs.engines.test_suspects import covered, receipt_of, unit_of

sizes = st.integers(2, 60)
numbers = st.integers(2, 20)


@given(num_problems=sizes, num=numbers)
def test_parts_cover_every_problem_once_and_in_order_and_are_of_about_equal_size(
    num_problems: int, num: int
) -> None:
    parts = Cuts().parts(unit_of("u", num_problems), num)
    assert [index for part in parts for index in covered(part)] == list(range(num_problems))
    assert len(parts) == min(num, num_problems)
    lengths = [part.num_requests for part in parts]
    assert max(lengths) - min(lengths) <= 1 <= min(lengths)


@given(sizes=st.lists(sizes, min_size=1, max_size=8), more=st.integers(0, 40))
def test_the_largest_part_is_as_small_as_so_many_parts_allow(sizes: list[int], more: int) -> None:
    found = spread(sizes, len(sizes) + more)
    assert sum(found) == min(len(sizes) + more, sum(sizes))
    largest = max(Fraction(size, num) for size, num in zip(sizes, found, strict=True))
    # Parts that are all smaller would be more.
    assert sum(math.ceil(size / largest) for size in sizes) <= sum(found)
    assert all(1 <= num <= size for size, num in zip(sizes, found, strict=True))


@given(num_problems=sizes, num=numbers, data=st.data())
def test_a_unit_is_merged_once_and_when_its_last_part_is_done(
    num_problems: int, num: int, data: st.DataObject
) -> None:
    cuts = Cuts()
    parts = data.draw(st.permutations(cuts.parts(unit_of("u", num_problems), num)))
    merges = [cuts.took("u", range_of(part), receipt_of(part)) for part in parts]
    assert merges[:-1] == [None] * (len(parts) - 1)
    merge = merges[-1]
    assert merge is not None and merge.part is not None and merge.part.is_merge
    assert len(merge.part.done) == len(parts) and merge.num_requests == 0
    assert merge.name == parts[0].name, "its file is the one that an uncut unit has"
    assert cuts.took("u", range_of(parts[0]), receipt_of(parts[0])) is None


@given(num_problems=sizes, num=numbers, data=st.data())
def test_a_unit_whose_part_was_open_on_a_dead_engine_keeps_the_parts_that_are_done(
    num_problems: int, num: int, data: st.DataObject
) -> None:
    cuts, suspects = Cuts(), Suspects()
    parts = cuts.parts(unit_of("u", num_problems), num)
    done = parts[: data.draw(st.integers(0, len(parts) - 1))]
    for part in done:
        assert cuts.took("u", range_of(part), receipt_of(part)) is None
    cut = cuts.give_up("u")
    assert cut is not None and cuts.give_up("u") is None
    suspects.add_cut(cut)
    late = parts[len(done)]
    assert cuts.took("u", range_of(late), receipt_of(late)) is None, (
        "one that comes late counts nothing"
    )
    asked: list[int] = []
    committed = None
    while suspects:
        unit = suspects.next()
        assert unit.part is not None
        asked += covered(unit)
        committed = suspects.survived(receipt_of(unit)), unit.part
    assert asked == [index for part in parts[len(done) :] for index in covered(part)]
    assert committed is not None and committed[0] is not None and committed[1].is_merge
    assert len(committed[1].done) == len(parts)


def test_a_unit_of_one_problem_or_a_part_is_not_cut() -> None:
    cuts = Cuts()
    [one] = cuts.parts(unit_of("u", 1), 8)
    assert one.part is None
    part = cuts.parts(unit_of("v", 4), 2)[0]
    assert cuts.parts(part, 2) == [part]
