from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.foresight import seconds
from orca2_gen.foresight.amounts import KnownUnits, Races, UnitRows
from orca2_gen.foresight.seconds import FEWEST_ROWS, Foresight, Foretold
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures
from orca2_gen.run_directory.units import Receipt
from tests.foresight.rules import RULE
from tests.foresight.test_races import group, raced


def figures(start: str, rows: int, tokens_per_row: int, up: float | None = 0.0) -> EngineFigures:
    return EngineFigures(
        start=start,
        stage="rationales",
        model="m",
        replica=0,
        node="h",
        start_seconds=up,
        generated_tokens=rows * tokens_per_row,
        answers={"a": Answers(requests=2 * rows, completion_tokens=rows * tokens_per_row)},
        rows={"a": rows},
    )


def committed(unit: str) -> Receipt:
    return Receipt(stage="rationales", stage_key="k", unit=unit, attempt=1, files=(), counts={})


@given(st.integers(16, 40), st.integers(1, 300), st.integers(2, 40), st.integers(1, 4))
def test_engines_of_one_speed_end_when_it_is_foretold(
    rows_per_look: int, tokens_per_row: int, num_units: int, num_engines: int
) -> None:
    per_unit = 4 * rows_per_look * num_engines
    units = {str(place): UnitRows(num=per_unit, strategy="a") for place in range(num_units)}
    foresight = Foresight(KnownUnits(units=units))
    told: list[tuple[float, Foretold | None]] = []
    for look in range(4 * num_units + 1):
        rows = look * rows_per_look
        engines = {
            str(each): figures(str(each), rows, tokens_per_row) for each in range(num_engines)
        }
        if look and look % 4 == 0:
            foresight.add(committed(str(look // 4 - 1)))
        foresight.look(10.0 * look, engines, list(engines.values()))
        told.append((10.0 * look, foresight.foretell()))
    end = 10.0 * 4 * num_units
    later = [(now, each) for now, each in told if each is not None]
    assert later, "nothing was foretold"
    for now, each in later:
        # Some of what engines say that they did may be of no use, so a tenth of it counts as left.
        if end - now > 40.0:
            assert now + each.seconds == pytest.approx(end)
            assert each.low < each.seconds < each.high


def test_nothing_is_foretold_before_engines_have_answered_some_rows() -> None:
    foresight = Foresight(KnownUnits(units={"u": UnitRows(num=1000)}))
    assert foresight.foretell() is None
    for now, rows in ((0.0, 0), (10.0, 1), (20.0, FEWEST_ROWS - 1)):
        engine = figures("s", rows, 10)
        foresight.look(now, {"s": engine}, [engine])
        assert foresight.foretell() is None


def test_an_engine_that_loads_counts_as_one_that_will_work() -> None:
    def left(num_loading: int) -> float:
        foresight = Foresight(KnownUnits(units={"u": UnitRows(num=10_000)}))
        loading = [figures(f"l{each}", 0, 1, up=None) for each in range(num_loading)]
        for now in (0.0, 10.0, 20.0):
            up = figures("s", int(10 * now) + 1, 10)
            engines = [up, *loading]
            foresight.look(now, {each.start: each for each in engines}, engines)
        told = foresight.foretell()
        assert told is not None
        return told.seconds

    assert left(1) == pytest.approx(left(0) / 2, rel=0.01)


def test_an_engine_that_died_makes_the_stage_longer() -> None:
    foresight = Foresight(KnownUnits(units={"u": UnitRows(num=10_000)}))
    for now in (0.0, 10.0, 20.0, 30.0):
        engines = [figures(name, int(10 * now) + 1, 10) for name in ("s", "t")]
        foresight.look(now, {each.start: each for each in engines}, engines)
    before = foresight.foretell()
    foresight.look(30.0, {each.start: each for each in engines}, engines[:1])
    after = foresight.foretell()
    assert before is not None and after is not None
    assert after.seconds == pytest.approx(2 * before.seconds, rel=0.05)


def test_rows_that_died_with_their_engine_are_still_to_be_done() -> None:
    """Two engines have answered 100 rows each of units that are not committed; one dies."""
    units = {str(place): UnitRows(num=500, strategy="a") for place in range(10)}
    foresight = Foresight(KnownUnits(units=units))
    for now in (0.0, 10.0, 20.0):
        engines = [figures(name, int(5 * now) + 1, 10) for name in ("s", "t")]
        foresight.look(now, {each.start: each for each in engines}, engines)
    foresight.look(20.0, {each.start: each for each in engines}, engines[:1])
    told = foresight.foretell()
    assert told is not None
    # One engine answers 5 rows a second, and about 100 of 5,000 are there.
    assert told.seconds == pytest.approx((5000 - 101) / 5, rel=0.05)


def test_a_race_of_engines_that_do_not_tell_their_batches_is_foretold(tmp_path: Path) -> None:
    """A scripted engine has many requests open and none running."""
    groups = (group("g", 2), group("h", 2))
    receipts = raced(tmp_path, groups[0], {"a": 0.6, "b": 0.5}, 2)
    races = Races(run_dir=tmp_path, groups=groups, rule=RULE, committed=())
    foresight = Foresight(races)
    for receipt in receipts:
        foresight.add(receipt)
    for now in (0.0, 10.0, 20.0):
        engine = dataclasses.replace(figures("s", int(4 * now) + 1, 10), num_open=50)
        foresight.look(now, {"s": engine}, [engine])
    told = foresight.foretell()
    assert told is not None and 0 < told.low <= told.seconds <= told.high < 1000


def test_a_run_that_goes_on_tells_nothing_before_it_has_read_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seconds, "BLOCKS_AT_ONCE", 2)
    each = group("g")
    receipts = raced(tmp_path, each, {"a": 0.6, "b": 0.55, "c": 0.5}, 5)
    races = Races(
        run_dir=tmp_path, groups=(each,), rule=RULE, committed=tuple(reversed(receipts[:4]))
    )
    foresight = Foresight(races)
    foresight.add(receipts[4])
    seen = []
    for look in range(4):
        engine = figures("s", 40 * look + 1, 10)
        foresight.look(10.0 * look, {"s": engine}, [engine])
        seen.append(foresight.foretell() is not None)
    assert not foresight.is_reading
    assert seen == [False, False, True, True]


def test_an_engine_whose_figures_cannot_be_read_for_a_moment_ends_no_estimate() -> None:
    foresight = Foresight(KnownUnits(units={"u": UnitRows(num=10_000)}))
    for now in (0.0, 10.0, 20.0):
        engines = [figures(name, int(10 * now) + 1, 10) for name in ("s", "t")]
        foresight.look(now, {each.start: each for each in engines}, engines)
    foresight.look(25.0, {"s": engines[0]}, engines[:1])
    assert foresight.foretell() is not None
