from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from orca2_gen.ledger import read_ledger
from orca2_gen.records import Example, Rationale
from orca2_gen.shards import read_records
from orca2_gen.tables import (
    accuracy_table,
    example_table,
    selection_table,
    selections,
    verification_table,
)
from orca2_gen.verify import verify
from tests.conftest import FinishedRun


def printed(table: Any) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_selection_table_marks_each_groups_choice_once(undisturbed: FinishedRun) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    text = printed(selection_table(ledger))
    found = selections(ledger)
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
    example = read_records(undisturbed.run_dir, ledger.units["examples", unit].files[0], Example)[0]
    rationales = read_records(
        undisturbed.run_dir, ledger.units["rationales", unit].files[0], Rationale
    )
    [rationale] = [r for r in rationales if r.problem_id == example.problem_id]
    import dataclasses

    text = printed(
        example_table(dataclasses.replace(rationale, text="[bold]not markup[/bold]"), example)
    )
    assert rationale.user.splitlines()[0] in text
    assert "[bold]not markup[/bold]" in text


def test_the_accuracy_table_holds_every_task_and_model() -> None:
    before = {"cautious": {"sums": 0.25, "letters": 0.5, "macro": 0.375}}
    after = {"cautious": {"sums": 0.75, "letters": 0.5, "macro": 0.625}}
    text = printed(accuracy_table({"before": before, "after": after}))
    assert all(
        word in text
        for word in ("sums", "letters", "macro", "25.0", "75.0", "37.5", "62.5", "before", "after")
    )


@pytest.mark.parametrize("stage", ["problems", "scores", "rationales", "examples", "dataset"])
def test_the_verification_table_names_every_stage(undisturbed: FinishedRun, stage: str) -> None:
    assert stage in printed(verification_table(verify(undisturbed.run_dir)))
