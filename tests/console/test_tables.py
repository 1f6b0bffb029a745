from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orca2_gen.console.tables import (
    example_table,
    outcome_table,
    regrading_table,
    selection_table,
    verification_table,
)
from orca2_gen.provenance.regrade import Changes
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Example, Rationale, Selection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from tests.conftest import FinishedRun


def printed(table: Any) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_selection_table_marks_each_groups_choice_once(undisturbed: FinishedRun) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    text = printed(selection_table(ledger))
    found = committed_rows(ledger, "selections", Selection)
    assert {s.group for s in found} == {"sums", "letters"}
    for selection in found:
        [line] = [
            row for row in text.splitlines() if row.strip(" \u2502").startswith(selection.group)
        ]
        assert line.count("*") == 1
        best = next(s for s in selection.summaries if s.strategy == selection.strategy)
        assert f"* {100 * best.mean:.0f} ({best.mean_completion_tokens:.0f})" in line


def test_the_example_table_shows_both_faces_and_takes_no_text_for_markup(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    unit = ledger.committed("examples")[0].unit
    example = read_records(undisturbed.run_dir, ledger.units["examples", unit].accepted, Example)[0]
    rationales = read_records(
        undisturbed.run_dir, ledger.units["rationales", unit].accepted, Rationale
    )
    [rationale] = [r for r in rationales if r.problem_id == example.problem_id]
    text = printed(
        example_table(dataclasses.replace(rationale, text="[bold]not markup[/bold]"), example)
    )
    assert rationale.user.splitlines()[0] in text
    assert "[bold]not markup[/bold]" in text


@pytest.mark.parametrize("stage", ["problems", "scores", "rationales", "examples", "dataset"])
def test_the_verification_table_names_every_stage(undisturbed: FinishedRun, stage: str) -> None:
    assert stage in printed(verification_table(verify(undisturbed.run_dir)))


def test_the_outcome_table_gives_each_strategys_shares_of_what_was_not_judged(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    found = committed_rows(ledger, "selections", Selection)
    rows = {
        line.strip(" \u2502").split("\u2502")[0].strip().replace(" ", "_"): line
        for line in printed(outcome_table(ledger)).splitlines()
        if line.startswith("\u2502")
    }
    assert set(rows) == {s.strategy for s in found[0].summaries}
    for name, line in rows.items():
        cells = [cell.strip() for cell in line.strip("\u2502").split("\u2502")]
        summaries = [s for each in found for s in each.summaries if s.strategy == name]
        num = sum(s.num_scored for s in summaries)
        share = 100 * sum(s.num_unparsed for s in summaries) / num
        selected = sum(each.strategy == name for each in found)
        fell = sum(s.fell_in_block >= 0 for s in summaries)
        assert cells[1:4] == [str(selected), str(fell), str(num)]
        assert cells[5] == f"{share:.1f}"


@pytest.mark.parametrize("num_fragile", [0, 1, 7])
def test_choices_that_unjudged_answers_could_have_changed_are_named(
    undisturbed: FinishedRun, tmp_path: Path, num_fragile: int
) -> None:
    [first, *_] = committed_rows(read_ledger(undisturbed.run_dir), "selections", Selection)
    ledger = read_ledger(tmp_path, writable=True)
    summaries = tuple(
        dataclasses.replace(each, num_scored=10, num_forced=3) for each in first.summaries
    )
    first = dataclasses.replace(first, summaries=summaries)
    for index in range(8):
        row = dataclasses.replace(first, group=f"task{index}", fragile=index < num_fragile)
        name = UnitName(stage="selections", stage_key="k", unit=row.group, group=row.group)
        ledger.commit([write_unit(tmp_path, name, [row], Selection)])
    text = " ".join(printed(outcome_table(ledger)).split())
    assert (f"{num_fragile} of 8 choices are fragile" in text) == bool(num_fragile)
    assert ("and 2 more" in text) == (num_fragile == 7)
    assert text.count("30.0") == len(summaries)  # the share of forced answers


def test_the_regrading_table_has_a_row_for_every_task_and_strategy() -> None:
    found = Changes(
        num_cells=8, now_correct=3, now_not_correct=1, other=2, sum_before=2.0, sum_after=4.0
    )
    changes = {
        (stage, task, "step_by_step"): found
        for stage in ("scores", "evaluation student-1a2b3c4d")
        for task in ("sums", "letters")
    }
    rows = [line.split("\u2502") for line in printed(regrading_table(changes)).splitlines()]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) > 2]
    assert cells == [
        [stage, task, "step by step", "8", "3", "1", "2", "25.0", "50.0"]
        for stage, task, _ in changes
    ]


def test_a_category_is_no_markup(undisturbed: FinishedRun, tmp_path: Path) -> None:
    [first, *_] = committed_rows(read_ledger(undisturbed.run_dir), "selections", Selection)
    ledger = read_ledger(tmp_path, writable=True)
    for index, group in enumerate(("logic [easy]", "sums [/b]")):
        row = dataclasses.replace(first, group=group, fragile=True)
        name = UnitName(stage="selections", stage_key="k", unit=f"u{index}", group=group)
        ledger.commit([write_unit(tmp_path, name, [row], Selection)])
    for table in (selection_table(ledger), outcome_table(ledger)):
        text = " ".join(printed(table).split())
        assert "logic [easy]" in text and "sums [/b]" in text
