from __future__ import annotations

import dataclasses
import re
import threading
import time
from pathlib import Path

import pytest

from orca2_gen.console import progress
from orca2_gen.console.progress import show_stage
from orca2_gen.console.stage import StageProgress
from orca2_gen.foresight.amounts import KnownUnits, Races, UnitRows
from orca2_gen.foresight.expected import Expected
from orca2_gen.run_directory.engine_figures import (
    Answers,
    EngineFigures,
    figures_path,
    write_figures,
)
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group
from tests.foresight.rules import RULE


def receipt(**counts: int) -> Receipt:
    accepted = counts.get("input", 0) - counts.get("rejected", 0)
    known = {"input": 0, "accepted": accepted, "rejected": 0}
    return Receipt(
        stage="problems", stage_key="k", unit="u", attempt=1, files=(), counts=known | counts
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


def test_a_stage_without_a_terminal_is_never_silent_for_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    monkeypatch.setattr(progress, "FIGURE_SECONDS", 0.02)
    earlier = EngineFigures(start="old", stage="scores", model="m", replica=0, node="h")
    write_figures(figures_path(tmp_path, "m-0", "old"), earlier)
    said = ""

    def await_line(pattern: str) -> None:
        nonlocal said
        end = time.monotonic() + 30
        while not re.search(pattern, said):
            assert time.monotonic() < end, f"no {pattern} in {said}"
            time.sleep(0.01)
            said += capsys.readouterr().err

    with show_stage("scores", 4, run_dir=tmp_path) as advance:
        advance(receipt(input=8))
        await_line(r"scores: 1 of 4 units, 8 rows, \d s; no engine has its devices yet")
        now = EngineFigures(start="new", stage="scores", model="m", replica=0, node="h")
        write_figures(figures_path(tmp_path, "m-0", "new"), now)
        await_line("1 engine loads for 0 s")
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_stage_without_engines_says_nothing_of_them(tmp_path: Path) -> None:
    stage = StageProgress(stage="problems", amount=None, run_dir=tmp_path)
    stage.look()
    assert stage.line() == "problems: 0 s"


@pytest.mark.parametrize("error", [OSError("stale"), None])
def test_a_file_system_that_hangs_or_fails_keeps_no_stage_from_ending(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError | None
) -> None:
    monkeypatch.setattr(progress, "FIGURE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_JOIN_SECONDS", 0.1)
    hanging, reached = threading.Event(), threading.Event()

    def glob(self: Path, pattern: str) -> list[Path]:
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            if error is None:
                hanging.wait(30)
        if error is not None:
            raise error
        return []

    monkeypatch.setattr(Path, "glob", glob)
    with show_stage("scores", 4, run_dir=tmp_path):
        assert reached.wait(30)
    hanging.set()


def test_the_time_left_is_told_once_a_few_units_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stage = StageProgress(stage="problems", amount=10, run_dir=None)
    for second in (100.0, 110.0):  # the first comes after a long start
        now[0] = second
        stage.advance(receipt(input=1))
        assert stage.seconds_left is None
    now[0] = 120.0
    stage.advance(receipt(input=1))
    assert stage.seconds_left is not None
    assert stage.seconds_left.seconds == pytest.approx(70.0)
    assert stage.line() == "problems: 3 of 10 units, 3 rows, 2 min 0 s, about 1 min 10 s left"
    assert StageProgress(stage="problems", amount=None, run_dir=None).seconds_left is None


def test_the_time_left_of_engines_is_told_with_its_interval_and_goes_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    units = {f"u{number}": UnitRows(num=100) for number in range(10)}
    stage = StageProgress(stage="rationales", amount=KnownUnits(units=units), run_dir=tmp_path)
    for second in range(0, 110, 10):  # ten rows of ten tokens in a second
        now[0] = float(second)
        figures = EngineFigures(
            start="s",
            stage="rationales",
            model="m",
            replica=0,
            node="h",
            seconds=second,
            start_seconds=0.0,
            generated_tokens=100 * second,
            answers={"a": Answers(requests=10 * second, completion_tokens=100 * second)},
            rows={"a": 10 * second},
        )
        write_figures(figures_path(tmp_path, "m-0", "new"), figures)
        if second and second % 10 == 0:
            unit = f"u{second // 10 - 1}"
            stage.advance(dataclasses.replace(receipt(input=100), unit=unit))
        stage.look()
        if second == 50:
            assert stage.seconds_left is not None
            assert stage.seconds_left.seconds == pytest.approx(50.0)
            assert re.search(r"about 50 s left \(4\d s to (5\d s|1 min)", stage.line())
            now[0] = 54.0
            assert "about 46 s left" in stage.line()
    assert stage.seconds_left is not None and stage.seconds_left.seconds == 0.0
    assert "left" not in stage.line()


def test_an_estimate_that_fails_is_the_last_and_ends_no_progress(tmp_path: Path) -> None:
    group = Group(name="g", num_problems=10, num_groups=1)
    races = Races(run_dir=tmp_path, groups=(group,), rule=RULE, committed=())
    stage = StageProgress(stage="scores", amount=races, run_dir=tmp_path)
    stage.advance(dataclasses.replace(receipt(input=4), group="a group of nobody"))
    stage.look()
    assert stage.seconds_left is None and stage.line().startswith("scores: 1 unit, 4 rows")
    stage.look()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Expected(value=7200.0, low=3600.0, high=9000.0), "2 h 0 min (1 h 0 min to 2 h 30 min)"),
        (None, ""),
        (ValueError("no run"), ""),
    ],
)
def test_what_comes_after_the_scores_is_told_with_them_and_asked_once(
    tmp_path: Path, answer: object, said: str
) -> None:
    asked = []

    def to_come() -> Expected | None:
        asked.append(answer)
        if isinstance(answer, Exception):
            raise answer
        assert answer is None or isinstance(answer, Expected)
        return answer

    stage = StageProgress(stage="scores", amount=None, run_dir=tmp_path, to_come=to_come)
    stage.look()
    stage.look()
    assert len(asked) == 1
    assert ("then rationales" in stage.line()) == bool(said) and said in stage.line()
