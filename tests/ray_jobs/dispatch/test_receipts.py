"""A stage stops for too many rejections, of all its rows or of one task's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.receipts import Tally, check_task

LIMITS = DispatchConfig(rejection_rows=100, max_rejection_rate=0.9)


def receipt(stage: str, unit: str, accepted: int, **reasons: int) -> Receipt:
    rejected = sum(reasons.values())
    counts = {"input": accepted + rejected, "accepted": accepted, "rejected": rejected}
    counts |= {f"rejected.{reason}": num for reason, num in reasons.items()}
    return Receipt(stage=stage, stage_key="k", unit=unit, attempt=1, files=(), counts=counts)


def tally_of(receipts: Sequence[Receipt]) -> Tally:
    tally = Tally(limits=LIMITS)
    for each in receipts:
        tally.add(each)
    return tally


@pytest.mark.parametrize("stage", ["problems", "evaluation_problems"])
def test_a_good_task_does_not_hide_a_bad_one(stage: str) -> None:
    good = [receipt(stage, f"good-{n:06d}", 100) for n in range(50)]
    bad = [receipt(stage, f"bad-{n:06d}", 1, no_answer=18, not_json=1) for n in range(5)]
    tally_of(good + bad[:4]).check(stage)
    with pytest.raises(TooManyRejections) as stopped:
        tally_of(good + bad).check(stage)
    assert str(stopped.value).startswith(
        f"{stage}: task 'bad': 95 of 100 rows were rejected (95.0%, max_rejection_rate is 90.0%), "
        "most for no_answer; "
    )


def test_groups_of_other_stages_are_no_tasks() -> None:
    rows = [receipt("rationales", f"good-{n:06d}", 100) for n in range(50)]
    rows += [receipt("rationales", f"bad-{n:06d}", 0, wrong=100) for n in range(5)]
    tally_of(rows).check("rationales")
    as_problems = [dataclasses.replace(row, stage="problems") for row in rows]
    with pytest.raises(TooManyRejections, match="task 'bad'"):
        tally_of(as_problems).check("problems")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 30))))
def test_a_stage_stops_iff_it_or_a_task_of_enough_rows_is_over_the_limit(
    rows: list[tuple[str, int, int]],
) -> None:
    units = [receipt("problems", f"{t}-{n:06d}", a, bad=r) for n, (t, a, r) in enumerate(rows)]
    sums = [
        (sum(a for t, a, _ in rows if t in names), sum(r for t, _, r in rows if t in names))
        for names in ("a", "b", "ab")
    ]
    stops = any(a + r >= 100 and r / (a + r) > 0.9 for a, r in sums)
    try:
        tally_of(units).check("problems")
    except TooManyRejections:
        assert stops
    else:
        assert not stops


def test_a_task_at_its_end_is_checked_whatever_its_size() -> None:
    tally = tally_of([receipt("problems", "a-000000", 0, no_answer=1)])
    tally.check("problems")
    with pytest.raises(TooManyRejections, match=r"most for no_answer \(a\.jsonl:1: found\); their"):
        check_task(tally.tasks["a"], "problems", LIMITS, lambda: "a.jsonl:1: found")
    check_task(tally_of([receipt("problems", "a-000000", 1)]).tasks["a"], "problems", LIMITS)
