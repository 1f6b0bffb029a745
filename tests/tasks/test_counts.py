"""Rows of each task as receipts count them, also those of earlier versions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.tasks.counts import (
    TaskCounts,
    counts_by_task,
    example_of,
    reason_counts,
    stated_reasons,
)
from tests.tasks.reading import GOOD, line, read_lines

REASONS = st.lists(st.sampled_from(["not_json", "no_question", "prompt_too_long"]), max_size=20)


def rejection(reason: str, place: int) -> Rejection:
    return Rejection(
        problem_id=f"x:{place}", stage="problems", reason=reason, detail=f"x:{place}: {reason}"
    )


def unit(run_dir: Path, name: str, content: str) -> Receipt:
    found = read_lines(run_dir, content)
    rejected = [row for row in found if isinstance(row, Rejection)]
    accepted = [row for row in found if isinstance(row, Problem)]
    made = UnitName(stage="problems", stage_key="k", unit=name)
    return write_unit(run_dir, made, accepted, Problem, rejected, reason_counts(rejected))


@given(units=st.lists(REASONS, min_size=1, max_size=5))
def test_counts_of_units_add_up_by_reason_and_name_the_most_frequent(
    units: list[list[str]],
) -> None:
    counts, every = TaskCounts(task="t"), Counter[str]()
    for number, reasons in enumerate(units):
        every.update(reasons)
        rows = [rejection(reason, place) for place, reason in enumerate(reasons)]
        sums = {"input": 3 + len(rows), "accepted": 3, "rejected": len(rows)}
        counts.add(
            Receipt(
                stage="problems",
                stage_key="k",
                unit=f"t-{number:06d}",
                attempt=1,
                files=(),
                counts=sums | reason_counts(rows),
            )
        )
    assert counts.reasons == every and counts.rejected == every.total()
    assert counts.input == counts.accepted + counts.rejected
    assert every[counts.most_frequent] == max(every.values(), default=0)
    assert all(f"{num} {reason}" in counts.sentence for reason, num in every.items())


def test_receipts_that_do_not_say_reasons_are_completed_from_their_files(tmp_path: Path) -> None:
    ledger = read_ledger(tmp_path, writable=True)
    new = unit(tmp_path, "a-b-000000", GOOD + "{\n" + line(question="") * 2)
    old = unit(tmp_path, "a-b-000001", "{\n" * 3)
    old = dataclasses.replace(
        old, counts={k: old.counts[k] for k in ("input", "accepted", "rejected")}
    )
    ledger.commit([new, old, unit(tmp_path, "c-000000", GOOD)])
    found = counts_by_task(read_ledger(tmp_path), "problems")
    assert [counts.sentence for counts in found.values()] == [
        "a-b: 7 rows read, 1 accepted, 6 rejected (4 not_json, 2 no_question)",
        "c: 1 rows read, 1 accepted, 0 rejected",
    ]
    assert stated_reasons(old) == {}
    assert example_of(ledger, "problems", "a-b", "no_question").startswith("rows.jsonl:3: expected")
    assert example_of(ledger, "problems", "c", "no_question") == ""
