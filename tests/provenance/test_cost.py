from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.provenance.cost import cost_line, stage_costs, strategy_costs
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, read_figures
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun

ANSWERS = st.builds(
    Answers,
    requests=st.integers(0, 100),
    prompt_tokens=st.integers(0, 9999),
    completion_tokens=st.integers(0, 9999),
)


@st.composite
def engines(draw: st.DrawFn) -> dict[str, EngineFigures]:
    made = {}
    for number in range(draw(st.integers(0, 6))):
        loading, busy, idle = (draw(st.floats(0, 1000)) for _ in "123")
        is_up = draw(st.booleans())
        made[str(number)] = EngineFigures(
            start=str(number),
            stage=draw(st.sampled_from(["scores", "rationales", "evaluation"])),
            model="m",
            replica=0,
            node="h",
            num_gpus=draw(st.integers(0, 8)),
            seconds=loading + (busy + idle if is_up else 0.0),
            start_seconds=loading if is_up else None,
            busy_seconds=busy if is_up else 0.0,
            answers=draw(st.dictionaries(st.sampled_from(["a", "b"]), ANSWERS)) if is_up else {},
        )
    return made


@given(figures=engines())
def test_every_second_of_an_engine_is_loading_busy_or_idle(
    figures: dict[str, EngineFigures],
) -> None:
    costs = stage_costs(figures)
    assert sum(cost.num_starts for cost in costs) == len(figures)
    for cost in costs:
        assert cost.loading + cost.busy + cost.idle == pytest.approx(cost.device_seconds, abs=1e-6)
    assert sum(cost.device_seconds for cost in costs) == pytest.approx(
        sum(each.seconds * max(1, each.num_gpus) for each in figures.values())
    )


@given(figures=engines())
def test_strategies_share_the_busy_seconds_of_their_stage(
    figures: dict[str, EngineFigures],
) -> None:
    shared = strategy_costs(figures)
    for cost in stage_costs(figures):
        mine = [each for each in shared if each.stage == cost.stage]
        made = sum(each.answers.completion_tokens for each in mine)
        total = sum(each.device_seconds for each in mine)
        assert total == pytest.approx(cost.busy if made else 0.0)


def test_a_run_tells_what_its_rows_cost(undisturbed: FinishedRun) -> None:
    figures = read_figures(undisturbed.run_dir)
    assert figures and all(each.has_ended for each in figures.values())
    ledger = read_ledger(undisturbed.run_dir)
    asked = {
        stage: sum(cost.answers.requests for cost in strategy_costs(figures) if cost.stage == stage)
        for stage in ("scores", "rationales")
    }
    scored = sum(receipt.counts["accepted"] for receipt in ledger.committed("scores"))
    assert asked["scores"] >= scored > 0 and asked["rationales"] > 0
    rows = sum(receipt.counts["accepted"] for receipt in ledger.committed("examples"))
    assert f" for each of {rows:,} rows, " in cost_line(ledger, figures)
    assert cost_line(ledger, {}) == ""


def test_rows_of_other_engines_have_no_cost_here(undisturbed: FinishedRun) -> None:
    """As a fork's, a regraded run's, and those of an older version."""
    figures = read_figures(undisturbed.run_dir)
    mine = {start: each for start, each in figures.items() if each.stage != "scores"}
    line = cost_line(read_ledger(undisturbed.run_dir), mine)
    assert "without what other runs" in line and "for each of" not in line


def test_stages_stand_in_their_order_whatever_their_engines_are_called() -> None:
    names = ["evaluation before", "rationales", "evaluation after", "scores"]
    figures = {
        str(place): EngineFigures(start=str(place), stage=name, model="m", replica=0, node="h")
        for place, name in enumerate(names)
    }
    assert [cost.stage for cost in stage_costs(figures)] == [
        "scores",
        "rationales",
        "evaluation after",
        "evaluation before",
    ]
