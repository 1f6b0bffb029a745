from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from orca2_gen.console.evaluations import accuracies_table, differences_table
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.records import StudentScore
from tests.evaluations.test_accuracies import evaluated
from tests.evaluations.test_accuracies import sample as sample


def test_accuracies_and_differences_are_told_with_their_intervals(
    tmp_path: Path, sample: StudentScore, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"before": {"a": [1.0, 0.0] * 20}, "after": {"a": [1.0] * 40}}
    accuracies, differences = evaluations(evaluated(tmp_path, sample, **scores))
    Console(width=130).print(accuracies_table(accuracies), differences_table(differences))
    shown = " ".join(capsys.readouterr().out.split())
    assert "cautious │ before │ 50.0 │ 35.2 to 64.8 │ 40" in shown
    assert "after less before │ +50.0" in shown


def test_accuracies_without_forced_answers_stand_in_brackets_where_any_is_forced(
    tmp_path: Path, sample: StudentScore, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies, _ = evaluations(evaluated(tmp_path, sample, before={"a": [1.0, 0.0]}))
    Console(width=130).print(accuracies_table(accuracies))
    assert "forced answers counted as wrong" not in capsys.readouterr().out
    forced = [dataclasses.replace(each, unforced=0.25, forced=0.5) for each in accuracies]
    Console(width=130).print(accuracies_table(forced))
    shown = " ".join(capsys.readouterr().out.split())
    assert "50.0 (25.0)" in shown and "forced answers counted as wrong" in shown
