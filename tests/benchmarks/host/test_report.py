from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.host.report import REPORT, document, shown, step_table, write_report
from benchmarks.host.steps import Outcome

OUTCOMES = (
    Outcome(
        step="training",
        ended="done",
        seconds=12.3,
        figures={"tokens_per_second": 48_000.5, "gpus": [{"name": "H200"}], "document": {"a": 1}},
    ),
    Outcome(step="swap", ended="left out", reason="it takes at least 75 s and 3 are left"),
)


def test_the_document_holds_every_outcome_under_its_step(tmp_path: Path) -> None:
    told = document(OUTCOMES, tiny=False)
    write_report(tmp_path, told)
    assert json.loads((tmp_path / REPORT).read_text()) == told
    assert told["steps"]["training"]["figures"]["document"] == {"a": 1}
    assert told["steps"]["swap"]["reason"] == OUTCOMES[1].reason
    assert [*tmp_path.iterdir()] == [tmp_path / REPORT]


def test_the_table_has_every_step_and_every_figure_but_nested_documents() -> None:
    table = step_table(OUTCOMES)
    for text in ("training", "48000.5", "name H200", "swap", "left out", "3 are left"):
        assert text in table
    assert "document" not in table
    assert (
        len(
            {
                line.index(word)
                for line, word in zip(table.splitlines(), ("ended", "done"), strict=False)
            }
        )
        == 1
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.45, "0.45"),
        (790e12, "790.00 T"),
        (-1_500_000_000, "-1.50 G"),
        (True, "True"),
        (None, "-"),
        ({"gpu": None, "shm": 0}, "gpu -, shm 0"),
        ([], "none"),
    ],
)
def test_a_figure_is_shown_as_a_person_reads_it(value: object, text: str) -> None:
    assert shown(value) == text
