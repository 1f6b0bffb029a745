from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from orca2_gen.console.stage import StageProgress
from orca2_gen.console.strategies import OUTCOMES, outcomes_by_strategy, strategy_tables, yield_text
from orca2_gen.records import Rationale, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.engine_figures import (
    Answers,
    EngineFigures,
    figures_path,
    read_figures,
    write_figures,
)
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import FinishedRun

ENGINE = EngineFigures(
    start="s",
    stage="scores",
    model="m",
    replica=0,
    node="n",
    seconds=50.0,
    start_seconds=10.0,
    answers={name: Answers(requests=5, completion_tokens=50) for name in ("one", "two_words")},
    rows={"one": 4, "two_words": 3},
    outcomes={"one": {"correct": 3, "truncated": 1, "forced": 1}, "two_words": {"correct": 3}},
)


def of_stage(run: FinishedRun, stage: str) -> list[EngineFigures]:
    return [each for each in read_figures(run.run_dir).values() if each.stage == stage]


def printed(engines: list[EngineFigures]) -> list[str]:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        for table in strategy_tables(engines):
            console.print(table)
    return capture.get().splitlines()


def test_engines_count_what_became_of_every_score(undisturbed: FinishedRun) -> None:
    scores = committed_rows(read_ledger(undisturbed.run_dir), "scores", StudentScore)
    expected: dict[str, Counter[str]] = {}
    for score in scores:
        found = expected.setdefault(score.strategy, Counter())
        found[score.outcome] += 1
        found["forced"] += bool(score.ending)
    counted = outcomes_by_strategy(of_stage(undisturbed, "scores"))
    assert {key: +Counter(counts) for key, counts in counted.items()} == {
        ("scores", name): +counts for name, counts in expected.items()
    }


def test_engines_count_what_became_of_every_problem_that_was_taught(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    receipts = ledger.committed("rationales")
    refused = [
        row.strategy
        for receipt in receipts
        if receipt.refused
        for row in read_records(undisturbed.run_dir, receipt.refused, Rationale)
    ]
    counted: Counter[str] = Counter()
    for counts in outcomes_by_strategy(of_stage(undisturbed, "rationales")).values():
        counted.update(counts)
    assert counted["accepted"] == sum(receipt.counts["accepted"] for receipt in receipts)
    assert counted["rejected"] == sum(receipt.counts["rejected"] for receipt in receipts)
    assert counted["refused"] == len(refused)


def test_a_strategy_has_one_row_and_only_columns_that_somebody_fills() -> None:
    lines = printed([ENGINE, dataclasses.replace(ENGINE, start="t", outcomes={})])
    assert [name in lines[0] for name in ("correct", "truncated", "forced", "refused")] == [
        *(True, True, True),
        False,
    ]
    [one] = [line for line in lines if line.startswith("one ")]
    assert one.split() == ["one", "8", "3", "1", "1", "12"]
    assert any("two words" in line for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("num_gpus", "num_rows", "expected"),
    [
        (0, 0, ""),
        (0, 25, "0.5 rows per engine-second (2 engine-seconds each)"),
        (4, 25, "0.125 rows per GPU-second (8 GPU-seconds each)"),
    ],
)
def test_what_a_row_costs_is_told_from_the_first_on(
    num_gpus: int, num_rows: int, expected: str
) -> None:
    assert yield_text(num_rows, [dataclasses.replace(ENGINE, num_gpus=num_gpus)]) == expected


@pytest.mark.parametrize("height", [9, 24, 60])
def test_a_terminal_shows_both_tables_if_it_is_high_enough(tmp_path: Path, height: int) -> None:
    stage = StageProgress(stage="scores", amount=None, run_dir=tmp_path)
    write_figures(figures_path(tmp_path, "m-0", ENGINE.start), ENGINE)
    stage.look()
    console = Console(width=80, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(stage.screen(height))
    shown = capture.get()
    assert "engine" in shown and shown.count("\n") < height
    assert ("two words" in shown) == (height >= 24)


def test_scores_and_rationales_at_a_time_are_told_apart() -> None:
    taught = dataclasses.replace(
        ENGINE, start="t", stage="rationales", rows={"one": 7}, outcomes={"one": {"accepted": 7}}
    )
    lines = printed([taught, ENGINE])
    titles = [line.strip() for line in lines if line.strip() in ("scores", "rationales")]
    assert titles == ["scores", "rationales"]
    rows = [line.split() for line in lines if line.startswith("one ")]
    assert rows == [["one", "4", "3", "1", "1", "12"], ["one", "7", "7", "7"]]
    assert yield_text(11, [taught, ENGINE]) == ""


def test_every_column_fits_80_characters() -> None:
    names = ("recall_reason_generate", "extract_generate")
    every = dict.fromkeys(OUTCOMES[:5], 10000)
    engine = dataclasses.replace(
        ENGINE,
        rows=dict.fromkeys(names, 40_000),
        outcomes=dict.fromkeys(names, every),
        answers=dict.fromkeys(names, Answers(completion_tokens=40_000_000)),
    )
    lines = printed([engine])
    assert max(map(len, lines)) <= 80
    assert lines[-1].split()[-6:] == ["10,000"] * 5 + ["1000"]
