from __future__ import annotations

import pytest

from orca2_gen.console.progress import show_stage
from orca2_gen.run_directory.units import Receipt


def receipt(**counts: int) -> Receipt:
    zero = {"input": 0, "accepted": 0, "rejected": 0}
    return Receipt(
        stage="problems", stage_key="k", unit="u", attempt=1, files=(), counts=zero | counts
    )


def last_line(capsys: pytest.CaptureFixture[str], *receipts: Receipt) -> str:
    with show_stage("problems", None) as advance:
        for one in receipts:
            advance(one)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_stage_closes_with_its_units_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    line = last_line(capsys, receipt(input=8), receipt(input=3))
    assert line.startswith("problems: 2 units, 11 rows, ") and "passed over" not in line


def test_rows_that_samples_passed_over_are_told_over_all_tasks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = last_line(capsys, receipt(input=8, passed_over=40), receipt(input=3, passed_over=5))
    assert line.startswith("problems: 2 units, 11 rows, 45 rows passed over by samples, ")
