"""Several rationales of a problem, from the teacher to the row."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.cli import cli
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance.recover import recover
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Example, Rationale, Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.ray_jobs.several import Said, by_an_older_version, config_file, play, rewrite

LONG = "Let us see. " * 60 + "Answer: 7"
"""An answer that the student's context does not hold."""
RIGHT = ("Answer: 7", "Let us see. Answer: 7", "Let  us see.\nAnswer: 7", "So.\nAnswer: 7", LONG)
answers = st.sampled_from([*RIGHT, "Answer: 8", "", "I do not know."])
MOST = 4
teachers = st.dictionaries(
    st.sampled_from([f"p{number}" for number in range(7)]),
    st.lists(answers, min_size=MOST, max_size=MOST),
    min_size=1,
)
SAID: Said = {
    "a": ["Answer: 7", "Answer: 8", "So. Answer: 7", "Well. Answer: 7"],
    "b": [LONG, "Answer: 8", "Answer: 7", "Answer: 7"],
    "c": ["Answer: 8"] * MOST,
    "d": ["Answer: 8", "So. Answer: 7", "Answer: 7", "Answer: 7"],
    "e": ["Answer: 7", "Answer: 7", "Answer: 7", "So. Answer: 7"],
}
Keys = set[tuple[str, int]]


def accepted(said: Said, most: int) -> Keys:
    """The attempts that are taught, counted anew."""
    found = set()
    for own, texts in said.items():
        taught: dict[str, int] = {}
        for attempt, text in enumerate(texts):
            if text.endswith("Answer: 7") and len(taught) < most:
                taught.setdefault(" ".join(text.split()), attempt)
        found |= {(f"sums/train/{own}", attempt) for attempt in taught.values()}
    return found


def keys(rows: list[Rationale] | list[Example] | list[Rejection]) -> Counter[tuple[str, int]]:
    return Counter((row.problem_id, row.attempt) for row in rows)


def rejections(run_dir: Path, stage: str) -> list[Rejection]:
    files = [receipt.rejections for receipt in read_ledger(run_dir).committed(stage)]
    return [row for file in files if file for row in read_records(run_dir, file, Rejection)]


def rows_of(run_dir: Path) -> list[Example]:
    root = run_dir / "dataset"
    return list(read_examples(root, checked_manifest(root)))


@settings(max_examples=20)
@given(said=teachers, most=st.integers(1, MOST))
def test_every_accepted_answer_is_a_row_or_rejected_and_the_run_is_whole(
    said: Said, most: int
) -> None:
    taught = accepted(said, most)
    long = {(name, at) for name, at in taught if said[name.rpartition("/")[2]][at] == LONG}
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name) / "run"
        file = config_file(Path(name), said)
        summary = play(file, run_dir, said, f"rationales.per_problem={most}")
        ledger = read_ledger(run_dir)
        assert keys(committed_rows(ledger, "rationales", Rationale)) == Counter(taught)
        assert keys(committed_rows(ledger, "examples", Example)) == Counter(taught - long)
        assert keys(rejections(run_dir, "examples")) == Counter(long)
        assert keys(rows_of(run_dir)) == Counter(taught - long)
        num_problems = len({problem_id for problem_id, _ in taught})
        assert summary.rows == len(taught - long)
        assert summary.problems == len({problem_id for problem_id, _ in taught - long})
        found = verify(run_dir)
        assert (found.findings, found.notes) == ([], [])
        assert verify(run_dir / "dataset").findings == []
        table = {stage: counts for stage, *counts in found.table}
        num_lost = len(said) - num_problems
        assert table["rationales"] == [len(said), num_problems, num_lost, 0]
        if taught:
            assert table["examples"] == [len(taught), len(taught - long), len(long), 0]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    play(config_file(folder, SAID), folder / "run", SAID, "rationales.per_problem=3")
    return folder / "run"


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_both_figures_of_a_run_with_several_rationales_are_told(run_copy: Path) -> None:
    assert accepted(SAID, 3) == keys(
        committed_rows(read_ledger(run_copy), "rationales", Rationale)
    ).keys()  # fmt: skip
    found = verify(run_copy)
    assert found.several == {"rationales": (9, 4), "examples": (8, 4), "dataset": (8, 4)}
    card = (run_copy / "dataset" / "README.md").read_text()
    assert re.search(r"^8 rows of \d tasks and 4 problems; ", card, re.MULTILINE)
    shown = CliRunner().invoke(cli, ["verify", str(run_copy)], catch_exceptions=False).output
    [line] = [line for line in shown.splitlines() if "rationales" in line]
    assert [word for word in line.split() if word.isdigit()] == ["5", "4", "1", "0", "9", "4"]
    shown = CliRunner().invoke(cli, ["status", str(run_copy)], catch_exceptions=False).output
    assert "rationales: 2 units, 9 rows of 4 problems, 1 rejected\n" in shown
    assert "  20 attempts, 9 accepted, 11 refused (7 incorrect, 4 repeated)\n" in shown


@pytest.mark.parametrize("stage", ["rationales", "examples", "dataset"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_is_lost_is_found(run_copy: Path, stage: str, place: int) -> None:
    rewrite(run_copy, stage, lambda rows: rows[:place] + rows[place + 1 :])
    assert verify(run_copy).findings


@pytest.mark.parametrize("stage", ["rationales", "examples", "dataset"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_that_is_repeated_is_found(run_copy: Path, stage: str, place: int) -> None:
    rewrite(run_copy, stage, lambda rows: [*rows[: place + 1], *rows[place:]])
    assert verify(run_copy).findings


@pytest.mark.parametrize("stage", ["rationales", "examples"])
def test_rows_that_have_changed_their_attempts_are_found(run_copy: Path, stage: str) -> None:
    rewrite(
        run_copy,
        stage,
        lambda rows: [
            dataclasses.replace(rows[0], attempt=rows[1].attempt),
            dataclasses.replace(rows[1], attempt=rows[0].attempt),
            *rows[2:],
        ],
    )
    assert verify(run_copy).findings


@pytest.mark.parametrize("num_lines", range(3, 7))
def test_a_run_that_was_cut_short_is_resumed_to_the_same_bytes(
    run_copy: Path, num_lines: int, tmp_path: Path
) -> None:
    file = run_copy.parent / "run.toml"
    shutil.copy(config_file(tmp_path / "again", SAID), file)
    lines = (run_copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    assert num_lines < len(lines)
    before = {path.name: path.read_bytes() for path in (run_copy / "dataset").glob("*.arrow")}
    (run_copy / "ledger.jsonl").write_bytes(b"".join(lines[:num_lines]))
    (run_copy / "ledger.tip.json").unlink()
    shutil.rmtree(run_copy / "dataset")
    play(file, run_copy, SAID, "rationales.per_problem=3")
    after = {path.name: path.read_bytes() for path in (run_copy / "dataset").glob("*.arrow")}
    assert after == before
    assert verify(run_copy).findings == []


def test_a_lost_ledger_is_recovered_whole(run_copy: Path) -> None:
    before = read_ledger(run_copy).units
    (run_copy / "ledger.jsonl").write_text("{}\n")
    assert verify(run_copy).findings
    found = recover(run_copy)
    assert (found.unproved, found.fallen) == ((), ())
    assert read_ledger(run_copy).units == before
    assert verify(run_copy).findings == []


@pytest.mark.parametrize("stage", ["examples", "dataset"])
def test_files_of_a_version_that_named_no_attempt_stay_whole_and_are_gone_on_with(
    tmp_path: Path, stage: str
) -> None:
    said = {**SAID, "f": ["Answer: 8", LONG, LONG, LONG]}
    file, run_dir = config_file(tmp_path, said), tmp_path / "run"
    with by_an_older_version():
        play(file, run_dir, said)
    # Some rationales are of a later attempt, which their examples and rejections do not name.
    assert {("sums/train/d", 1), ("sums/train/f", 1)} <= accepted(said, 1)
    assert [row.attempt for row in rejections(run_dir, "examples")] == [0, 0]
    assert {row.attempt for row in rows_of(run_dir)} == {0}
    assert verify(run_dir).findings == [] and verify(run_dir / "dataset").findings == []
    if stage == "dataset":
        shutil.rmtree(run_dir / "dataset")
    else:
        _forget(run_dir, "examples")
    play(file, run_dir, said)
    found = verify(run_dir)
    assert (found.findings, found.notes) == ([], [])
    assert len(rows_of(run_dir)) == 3
    (run_dir / "ledger.jsonl").write_text("{}\n")
    assert recover(run_dir).fallen == ()
    assert verify(run_dir).findings == []


def _forget(run_dir: Path, stage: str) -> None:
    """Takes a stage, and what was made of it, out of a run."""
    lines = (run_dir / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if f'"stage": "{stage}"'.encode() not in line]
    assert lines[: len(kept)] == kept
    (run_dir / "ledger.jsonl").write_bytes(b"".join(kept))
    (run_dir / "ledger.tip.json").unlink()
    shutil.rmtree(run_dir / "dataset")
