"""The search for the problem that killed an engine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt, UnitName
from ray_jobs.dispatch.leases import EngineUnit, TeachUnit
from ray_jobs.engines.replicas import MAX_DEATHS_IN_A_ROW
from ray_jobs.engines.suspects import KILLS_OF_A_PROBLEM, Suspects


def unit_of(unit: str, num_problems: int) -> EngineUnit:
    nothing = FileEntry(path="", rows=0, bytes=0, sha256="")
    problems = FileEntry(path=f"problems/{unit}", rows=num_problems, bytes=0, sha256="")
    return TeachUnit(
        name=UnitName(stage="rationales", stage_key="k", unit=unit),
        problems=problems,
        selection=nothing,
    )


def receipt_of(unit: EngineUnit) -> Receipt:
    return Receipt(
        stage=unit.name.stage,
        stage_key="k",
        unit=unit.name.unit,
        attempt=unit.name.attempt,
        files=(),
        counts={},
    )


def covered(unit: EngineUnit) -> range:
    """The problems of this unit that an engine is asked."""
    return range(unit.part.first, unit.part.last) if unit.part else range(unit.num_problems)


def solve(suspects: Suspects, poison: dict[str, set[int]], most_at_once: int) -> list[EngineUnit]:
    """The units whose receipts would be committed after a search.

    Suspects run on engines that die of poison, or of more problems than `most_at_once`.
    """
    committed = []
    attempts: set[tuple[str, int]] = set()
    done: dict[tuple[str, int], range] = {}
    in_a_row = 0
    while suspects:
        unit = suspects.next()
        key = unit.name.unit, unit.name.attempt
        assert key not in attempts, "a late file of one attempt would fall on another's"
        attempts.add(key)
        problems = covered(unit)
        if poison.get(unit.name.unit, set()) & set(problems) or len(problems) > most_at_once:
            suspects.died()
            in_a_row += 1
            assert in_a_row < MAX_DEATHS_IN_A_ROW
            continue
        in_a_row = 0
        done[key] = problems
        if suspects.survived(receipt_of(unit)) is not None:
            committed.append(unit)
    for unit in committed:
        asked = list(covered(unit))
        lost: tuple[int, ...] = ()
        if unit.part is not None:
            lost = unit.part.lost
            asked += [i for r in unit.part.done for i in done[r.unit, r.attempt]]
        assert sorted([*asked, *lost]) == list(range(unit.num_problems))
        assert set(lost) == poison.get(unit.name.unit, set())
    return committed


sizes = st.integers(1, 70)


@given(st.lists(sizes, min_size=1, max_size=4), st.data())
def test_exactly_the_problems_that_kill_are_lost_and_every_other_is_asked_once(
    units: list[int], data: st.DataObject
) -> None:
    suspects = Suspects()
    poison = {}
    for number, size in enumerate(units):
        suspects.add(unit_of(f"u-{number}", size))
        poison[f"u-{number}"] = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    committed = solve(suspects, poison, most_at_once=100)
    assert [unit.name.unit for unit in committed] == [f"u-{n}" for n in range(len(units))]


@given(sizes, st.integers(1, 70))
def test_a_unit_that_is_only_too_much_at_once_loses_nothing(size: int, most: int) -> None:
    suspects = Suspects()
    suspects.add(unit_of("u", size))
    [unit] = solve(suspects, {}, most_at_once=most)
    assert unit.part is None or unit.part.lost == ()


def test_a_unit_that_only_shared_the_engine_is_run_whole_and_once() -> None:
    suspects = Suspects()
    suspects.add(unit_of("u", 256))
    unit = suspects.next()
    assert unit.part is None and unit.name.attempt == 2
    assert suspects.survived(receipt_of(unit)) == receipt_of(unit)
    assert not suspects


def test_a_single_problem_is_given_up_only_after_it_killed_twice_alone() -> None:
    suspects = Suspects()
    suspects.add(unit_of("u", 1))
    for _ in range(KILLS_OF_A_PROBLEM):  # as the whole unit, then as its part
        assert covered(suspects.next()) == range(1)
        suspects.died()
    merge = suspects.next()
    assert merge.part is not None and merge.part.is_merge and merge.part.lost == (0,)


def test_an_engine_that_dies_while_parts_are_put_together_costs_no_problem() -> None:
    suspects = Suspects()
    suspects.add(unit_of("u", 2))
    suspects.next()
    suspects.died()
    for _ in range(2):
        suspects.survived(receipt_of(suspects.next()))
    assert suspects.next().part.is_merge  # type: ignore[union-attr]
    suspects.died()
    merge = suspects.next()
    assert merge.part is not None and merge.part.lost == () and len(merge.part.done) == 2
    assert suspects.survived(receipt_of(merge)) is not None and not suspects


def test_a_unit_that_has_no_problem_left_is_tried_again_and_loses_none() -> None:
    suspects = Suspects()
    suspects.add(unit_of("u", 0))
    for _ in range(KILLS_OF_A_PROBLEM + 1):
        assert suspects.next().part is None
        suspects.died()
    unit = suspects.next()
    assert unit.part is None and suspects.survived(receipt_of(unit)) is not None and not suspects


def test_searches_that_give_problems_up_wait_for_those_that_do_not() -> None:
    suspects = Suspects()
    for name, size in (("u", 1), ("v", 4)):
        suspects.add(unit_of(name, size))
    for _ in range(KILLS_OF_A_PROBLEM):
        assert suspects.next().name.unit == "u" and not suspects.is_blaming
        suspects.died()
    assert suspects.is_blaming and suspects.postpone() and not suspects.is_blaming
    assert suspects.next().name.unit == "v"
    assert suspects.survived(receipt_of(suspects.next())) is not None
    assert suspects.is_blaming and not suspects.postpone(), "nothing else is left to try"
    merge = suspects.next()
    assert merge.name.unit == "u" and merge.part is not None and merge.part.lost == (0,)


@given(st.integers(2, 20), st.data())
def test_after_an_engine_that_died_of_everything_another_finds_the_killers(
    size: int, data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    suspects = Suspects()
    suspects.add(unit_of("u", size))
    for _ in range(data.draw(st.integers(0, 3 * size))):
        suspects.next()
        suspects.died()
    suspects.doubt()
    assert not suspects.is_blaming
    committed = []
    done: list[int] = []
    while suspects:
        unit = suspects.next()
        if poison & set(covered(unit)):
            suspects.died()
            continue
        done += covered(unit)
        if suspects.survived(receipt_of(unit)) is not None:
            committed.append(unit)
    [unit] = committed
    lost = unit.part.lost if unit.part is not None else ()
    assert set(lost) == poison
    assert sorted([*done, *lost]) == list(range(size))
