from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from orca2_gen.console.evaluations import accuracies_table, differences_table
from orca2_gen.records import StudentScore
from orca2_gen.report.evaluations import evaluations
from tests.report.test_evaluations import evaluated
from tests.report.test_evaluations import sample as sample


def test_accuracies_and_differences_are_told_with_their_intervals(
    tmp_path: Path, sample: StudentScore, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"before": {"a": [1.0, 0.0] * 20}, "after": {"a": [1.0] * 40}}
    accuracies, differences = evaluations(evaluated(tmp_path, sample, **scores))
    Console(width=130).print(accuracies_table(accuracies), differences_table(differences))
    shown = " ".join(capsys.readouterr().out.split())
    assert "cautious │ before │ 50.0 │ 35.2 to 64.8 │ 40" in shown
    assert "after less before │ +50.0" in shown
