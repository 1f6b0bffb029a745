from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from orca2_gen.console.engines import EngineRates, engine_table, engines_line
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures

UP = EngineFigures(
    start="a",
    stage="scores",
    model="student",
    replica=0,
    node="host-1",
    seconds=40.0,
    start_seconds=30.0,
    num_open=12,
    num_running=8,
    cache_usage=0.25,
    answers={"direct_answer": Answers(requests=3, prompt_tokens=200, cached_tokens=50)},
)
LOADING = EngineFigures(
    start="b", stage="scores", model="student", replica=1, node="host-2", seconds=95.0
)


def later(each: EngineFigures, seconds: float, tokens: int, busy: float) -> EngineFigures:
    return dataclasses.replace(
        each,
        seconds=each.seconds + seconds,
        generated_tokens=each.generated_tokens + tokens,
        busy_seconds=each.busy_seconds + busy,
    )


def test_rates_are_those_of_the_engine_s_own_seconds() -> None:
    rates = EngineRates()
    rates.add({"a": UP})
    assert rates.tokens_per_second("a") == 0.0 and rates.busy_share("a") == 0.0
    rates.add({"a": later(UP, 5.0, 1000, 4.0)})
    assert rates.tokens_per_second("a") == 200.0 and rates.busy_share("a") == 0.8


def test_a_rate_forgets_what_is_long_past() -> None:
    rates, now = EngineRates(), UP
    for _ in range(20):
        rates.add({"a": (now := later(now, 5.0, 5000, 5.0))})
    for _ in range(20):
        rates.add({"a": (now := later(now, 5.0, 0, 0.0))})
    assert rates.tokens_per_second("a") == 0.0


def test_the_time_of_loading_is_no_part_of_a_rate() -> None:
    rates = EngineRates()
    rates.add({"b": LOADING})
    up = dataclasses.replace(LOADING, seconds=100.0, start_seconds=99.0)
    rates.add({"b": up})
    rates.add({"b": later(up, 10.0, 500, 10.0)})
    assert rates.tokens_per_second("b") == 50.0


@pytest.mark.parametrize(
    ("living", "line"),
    [
        ([], "no engine has its devices yet"),
        ([LOADING], "1 engine loads for 95 s"),
        ([UP], "1 engine up, 0 tokens/s, 12 requests open, busy 0 %"),
        (
            [UP, LOADING, dataclasses.replace(LOADING, start="c", seconds=5.0)],
            "1 engine up, 0 tokens/s, 12 requests open, busy 0 %; 2 engines load for 95 s",
        ),
        ([dataclasses.replace(UP, has_ended=True)], "no engine has its devices yet"),
    ],
)
def test_a_line_tells_what_the_engines_do(living: list[EngineFigures], line: str) -> None:
    rates, figures = EngineRates(), {each.start: each for each in living}
    rates.add(figures)
    assert engines_line(figures, rates) == line


def test_an_engine_that_was_killed_is_no_longer_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rates, killed = EngineRates(), later(UP, 5.0, 1000, 5.0)
    rates.add({"a": UP})
    rates.add({"a": killed})
    other = dataclasses.replace(UP, start="z", replica=1)
    for _ in range(10):
        now[0] += 5.0
        other = later(other, 5.0, 100, 5.0)
        rates.add({"a": killed, "z": other})
    found = {"a": killed, "z": other}
    assert rates.living(found) == [other]
    assert engines_line(found, rates).startswith("1 engine up, 20 tokens/s, 12 requests open")


def test_of_engines_that_were_there_before_only_those_that_report_live() -> None:
    rates = EngineRates()
    dead = dataclasses.replace(UP, start="z")
    rates.add({"a": UP, "z": dead}, are_old=True)
    assert rates.living({"a": UP, "z": dead}) == []
    alive = later(UP, 5.0, 10, 5.0)
    rates.add({"a": alive, "z": dead})
    assert rates.living({"a": alive, "z": dead}) == [alive]


def test_a_table_taller_than_a_terminal_is_cut() -> None:
    figures = {str(n): dataclasses.replace(UP, start=str(n), node=f"n{n}.") for n in range(60)}
    rates = EngineRates()
    rates.add(figures)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(engine_table(figures, rates, most=5))
    text = console.export_text()
    assert "n4." in text and "n5." not in text and "and 55 more" in text


def test_a_narrow_terminal_breaks_no_cell() -> None:
    rates = EngineRates()
    rates.add({"a": UP})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(engine_table({"a": UP}, rates))
    text = console.export_text()
    assert all(word in text for word in ("student 0", "running", "waiting", "tokens/s", "host-1"))


def test_the_table_has_a_row_for_each_engine_that_lives() -> None:
    ended = dataclasses.replace(UP, start="c", node="host-3", has_ended=True)
    odd = dataclasses.replace(UP, start="d", node="[bold]host-4[/bold]")
    figures = {each.start: each for each in (UP, LOADING, ended, odd)}
    rates = EngineRates()
    rates.add(figures)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(engine_table(figures, rates))
    text = console.export_text()
    assert "host-1" in text and "host-3" not in text and "[bold]host-4[/bold]" in text
    [row] = [line for line in text.splitlines() if "host-1" in line]
    cells = [cell.strip() for cell in row.split("\u2502")][1:-1]
    assert cells == ["student 0", "host-1", "up", "8", "4", "0", "25 %", "25 %", "0 %"]
    assert "loads, 95 s" in text
