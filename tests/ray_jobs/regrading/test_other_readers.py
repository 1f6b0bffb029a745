"""Older runs regraded by a run that reads the task files otherwise: problems match one by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, StudentScore
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from orca2_gen.tasks.read import READER_VERSION
from ray_jobs import model_engines
from ray_jobs.dispatch.unit_receipts import REGRADED
from ray_jobs.evaluation import evaluate_model
from ray_jobs.pipeline import run_all
from ray_jobs.regrading.regrade import Regrading, regrade
from ray_jobs.run import open_run
from tests.conftest import quiet, source_of
from tests.test_older_run import MADE_AT, MADE_BY, OLDER_RUN

pytestmark = pytest.mark.usefixtures("local_ray")

Row = dict[str, Any]
Change = Callable[[Row], Row | None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the run of an older version, moved to where its task files lie now."""
    shutil.copytree(OLDER_RUN, tmp_path / "older")
    run_dir = tmp_path / "older" / "RUN"
    config = run_dir / "config.json"
    config.write_text(config.read_text().replace(MADE_AT, str(tmp_path / "older")))
    return run_dir


def change(source: Path, task: str, rows: dict[int, Change], more: tuple[Row, ...] = ()) -> None:
    """Changes rows of a task file of the older run, and adds some at its end."""
    file = source.parent / f"{task}.jsonl"
    lines = file.read_text().splitlines()
    for number, changed in rows.items():
        row = changed(json.loads(lines[number]))
        lines[number] = "" if row is None else json.dumps(row)
    added = [json.dumps(row) for row in more]
    file.write_text("".join(f"{line}\n" for line in (*lines, *added) if line))


def config_of(source: Path, *overrides: str) -> Config:
    """The older run's config for a new run directory beside it."""
    new = source.parent.parent / "new"
    return load_config(source / "config.json", (f"run_dir={new}", *overrides))


def regraded(source: Path, config: Config) -> Regrading:
    with open_run(config, quiet) as run:
        return regrade(run, source_of(source, config))


def finish(config: Config) -> None:
    """Runs and evaluates to the end, as `orca2 run` and `orca2 evaluate` do."""
    with open_run(config, quiet) as run:
        run_all(run)
        evaluate_model(run, "student")


def cells(ledger: Ledger, stage: str = "scores") -> dict[tuple[str, str], StudentScore]:
    rows = committed_rows(ledger, stage, StudentScore)
    return {(row.problem_id, row.strategy): row for row in rows}


def assert_whole(run_dir: Path) -> None:
    found = verify(run_dir)
    assert (found.findings, found.notes) == ([], [])


def line_of(found: Regrading, start: str) -> str:
    [line] = [line for line in found.lines if line.startswith(start)]
    return line


def with_gold(answer: str) -> Change:
    return lambda row: row | {"answer": answer}


def test_a_run_of_an_older_version_is_regraded_without_an_engine(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (MADE_BY["READER_VERSION"], MADE_BY["GRADER_VERSION"]) < (READER_VERSION, GRADER_VERSION)
    files = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    config = config_of(source)
    with monkeypatch.context() as patched:
        patched.setattr(model_engines, "start_engine", None)  # any start of an engine fails
        found = regraded(source, config)
    before, after = read_ledger(source), read_ledger(Path(config.run_dir))
    for stage in ("scores", "judgements", "evaluation"):
        assert all(REGRADED in receipt.counts for receipt in after.committed(stage))
    old, new = cells(before), cells(after)
    assert {cell: row.text for cell, row in new.items()} == {
        cell: row.text for cell, row in old.items()
    }
    assert cells(after, "judgements").keys() == cells(before, "judgements").keys()
    assert cells(after, "evaluation").keys() == cells(before, "evaluation").keys()
    version = f"readers {MADE_BY['READER_VERSION']} -> {READER_VERSION}"
    assert line_of(found, "problems: 38 of 38 match by id and prompt").endswith(version)
    assert line_of(found, "evaluation problems: 8 of 8 match").endswith(version)
    assert "problems: no gold answer differs" in found.lines
    assert f"scores: {len(old)} of {len(old)} stored answers carried over" in found.lines
    assert verify(Path(config.run_dir)).findings == []
    assert regraded(source, config) == found
    finish(config)
    assert cells(read_ledger(Path(config.run_dir))) == new
    assert_whole(Path(config.run_dir))
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == files


def test_a_corrected_gold_is_shown_and_only_its_verdicts_change(source: Path) -> None:
    change(source, "letters", {2: with_gold("B")})
    change(source, "held_out", {1: with_gold("999")})
    config = config_of(source)
    found = regraded(source, config)
    before, after = read_ledger(source), read_ledger(Path(config.run_dir))
    assert 'problems: 1 of 38 have another gold answer: letters/train/2: "A" -> "B"' in found.lines
    assert line_of(found, "evaluation problems: 1 of 8 have").endswith(': "11" -> "999"')
    old, new = cells(before), cells(after)
    assert old.keys() == new.keys()
    for cell, row in new.items():
        assert row.text == old[cell].text
        if cell[0] == "letters/train/2":
            assert (row.outcome == "correct") == (row.answer == "B")
        else:
            assert (row.outcome, row.answer) == (old[cell].outcome, old[cell].answer)
    assert all(REGRADED in receipt.counts for receipt in after.committed("evaluation"))
    finish(config)
    assert_whole(Path(config.run_dir))


def test_a_judge_is_asked_again_about_answers_whose_reference_changed(source: Path) -> None:
    change(source, "whys", {0: with_gold("The moon pulls it.")})
    config = config_of(source)
    found = regraded(source, config)
    before, after = read_ledger(source), read_ledger(Path(config.run_dir))
    changed = "whys/train/0"
    assert cells(after).keys() == cells(before).keys()
    judged = cells(after, "judgements")
    assert judged and changed not in {problem_id for problem_id, _ in judged}
    assert all(
        row.judgement == cells(before, "judgements")[c].judgement for c, row in judged.items()
    )
    assert any(line.startswith("open: world (it was ") for line in found.lines)
    finish(config)
    ledger = read_ledger(Path(config.run_dir))
    asked = [r for r in ledger.committed("judgements") if REGRADED not in r.counts]
    assert len(asked) == 1
    assert cells(ledger, "judgements").keys() == cells(before, "judgements").keys()
    assert_whole(Path(config.run_dir))


@pytest.mark.slow
def test_what_is_asked_in_other_words_or_is_new_is_left_to_an_engine_and_counted(
    source: Path,
) -> None:
    change(
        source,
        "whys",
        {1: lambda row: row | {"question": "Why does river one run?"}, 7: lambda row: None},
        ({"question": "Why is it wet?", "answer": "It rains.", "category": "world"},),
    )
    change(source, "held_out", {0: lambda row: row | {"question": "What is fifty less 40?"}})
    config = config_of(source)
    found = regraded(source, config)
    before, after = read_ledger(source), read_ledger(Path(config.run_dir))
    # Without ids of their own, rows are named by their line.
    assert "(in other words: 2, new: 0, only in the older run: 0 of 38)" in found.lines[0]
    assert line_of(found, "evaluation: 0 of 1 units regraded")
    asked_otherwise = {"whys/train/1", "whys/train/7"}
    assert not asked_otherwise & {problem_id for problem_id, _ in cells(after)}
    finish(config)
    after = read_ledger(Path(config.run_dir))
    made = [r for r in after.committed("scores") if r.group == "world"]
    assert [REGRADED in r.counts for r in made].count(False) <= 2
    words = {p.problem_id: p.question for p in committed_rows(after, "problems", Problem)}
    assert words["whys/train/1"] == "Why does river one run?"
    old = cells(before)
    for receipt in made:
        if REGRADED in receipt.counts:
            assert receipt.counts[REGRADED] == receipt.counts["accepted"] > 0
    assert {c for c in cells(after) if c[0].startswith("whys/")} == {
        c for c in old if c[0].startswith("whys/")
    }
    assert_whole(Path(config.run_dir))


def test_problems_that_only_one_run_has_are_counted(source: Path) -> None:
    more = (
        {"id": "s98", "question": "?", "answer": "1"},
        {"id": "s99", "question": "?", "answer": "2"},
    )
    change(source, "sums", {0: lambda row: None}, more)
    config = config_of(source)
    older = {p.problem_id for p in committed_rows(read_ledger(source), "problems", Problem)}
    found = regraded(source, config)
    ledger = read_ledger(Path(config.run_dir))
    here = {p.problem_id for p in committed_rows(ledger, "problems", Problem)}
    assert f"new: {len(here - older)}, " in found.lines[0]
    assert f"only in the older run: {len(older - here)} of {len(older)})" in found.lines[0]
    assert line_of(found, "order: sums: the number of problems has changed")
    finish(config)
    assert_whole(Path(config.run_dir))
