"""A run rejects copies before any engine, with the partner's id, and stays whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, Rejection
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import read_unit
from orca2_gen.tasks.copies import NEAR_LIST
from orca2_gen.tasks.counts import counts_by_task
from ray_jobs.decontamination import FOLDER
from ray_jobs.pipeline import read_tasks, run_all
from ray_jobs.run import open_run
from tests.conftest import Write, quiet

pytestmark = pytest.mark.usefixtures("local_ray")

HELD_OUT = """
[[evaluation.tasks]]
name = "held"
format = "jsonl"
path = "held.jsonl"
split = "test"
[[decontaminate.files]]
path = "bench.jsonl"
format = "jsonl"
"""


def write_rows(path: Path, *rows: tuple[str, str, str]) -> None:
    lines = [json.dumps({"id": i, "question": q, "answer": a}) for i, q, a in rows]
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def config_file(write_config: Write, tmp_path: Path) -> Path:
    file = write_config(sections=HELD_OUT)
    own = [(f"own-{n}", f"What is {n} + 1,000?", str(n + 1000)) for n in range(30)]
    copies = [
        ("z-1", "what  is 3 + 1000 ?", "1,003"),
        ("z-2", "What is 700 + 1000.0?", "1700"),
        ("z-3", "What is 800 + 1000?", "1800"),
    ]
    write_rows(tmp_path / "sums.jsonl", *own, *copies)
    write_rows(tmp_path / "letters.jsonl", ("l-1", "WHAT IS 4 + 1000?", "1004"), ("l-2", "Y?", "y"))
    write_rows(tmp_path / "held.jsonl", ("h-1", "What is 700 + 1,000?", "1700"))
    write_rows(tmp_path / "bench.jsonl", ("b-1", "What is 800 + 1,000?", "1800"))
    return file


def committed(ledger: Ledger) -> tuple[list[Problem], list[Rejection]]:
    accepted: list[Problem] = []
    rejected: list[Rejection] = []
    for receipt in ledger.committed("problems"):
        of_unit, lost = read_unit(ledger.run_dir, receipt, Problem)
        accepted += of_unit
        rejected += lost
    return accepted, rejected


def test_copies_become_rejections_with_the_partners_id(config_file: Path) -> None:
    lines: list[str] = []
    with open_run(load_config(config_file), quiet, lines.append) as run:
        run_all(run)
    accepted, rejected = committed(run.ledger)
    assert {(row.problem_id, row.reason) for row in rejected} == {
        ("sums/train/own-4", "duplicate"),
        ("sums/train/z-1", "duplicate"),
        ("sums/train/z-2", "contaminated"),
        ("sums/train/z-3", "contaminated"),
    }
    details = {row.problem_id: row.detail for row in rejected}
    assert "sums.jsonl:5: " in details["sums/train/own-4"]
    assert "letters/train/l-1, which stays" in details["sums/train/own-4"]
    assert "held/test/h-1, which is held out" in details["sums/train/z-2"]
    assert "bench/test/b-1, which is held out" in details["sums/train/z-3"]
    assert len(accepted) == 35 - 4
    assert (
        "decontamination: 35 rows compared with each other and 2 held out: "
        "2 duplicates, 2 contaminated, 0 near-duplicates"
    ) in lines
    assert verify(run.run_dir).findings == []
    assert list(run.run_dir.glob(f"{FOLDER}*")) == []


def test_a_sample_gets_its_number_of_rows_beside_the_copies(config_file: Path) -> None:
    sets = ["tasks.0.rows_per_task=29", "tasks.1.rows_per_task=2"]
    with open_run(load_config(config_file, sets), quiet) as run:
        read_tasks(run)
    accepted, rejected = committed(run.ledger)
    assert sum(row.task == "sums" for row in accepted) == 29
    assert len(rejected) == 4  # there are no more rows, so all copies were drawn before the last


def test_a_copy_is_no_worked_example_either(config_file: Path) -> None:
    with open_run(load_config(config_file, ["tasks.0.few_shot=[16, 16]"]), quiet) as run:
        read_tasks(run)
    accepted, _ = committed(run.ledger)
    shown = {shot.question for row in accepted for shot in row.examples}
    assert len(shown) == 29
    assert not [question for question in shown if "700" in question or "800" in question]


def test_without_the_section_every_row_is_a_problem(config_file: Path) -> None:
    sets = [f"decontaminate.{key}=false" for key in ("duplicates", "contamination")]
    sets.append("decontaminate.near=ignore")
    with open_run(load_config(config_file, sets), quiet) as run:
        read_tasks(run)
    accepted, rejected = committed(run.ledger)
    assert (len(accepted), rejected) == (35, [])


LONG = (
    "A ferry leaves the northern harbour every morning and carries visitors across the strait to a "
    "small island where a keeper sells lamps made of green glass. Who sells them?"
)


@pytest.mark.parametrize("near", ["report", "remove"])
def test_near_duplicates_are_counted_and_named_or_rejected(
    config_file: Path, tmp_path: Path, near: str
) -> None:
    other = LONG.replace("every", "each").replace("small", "tiny")
    write_rows(tmp_path / "letters.jsonl", ("l-1", LONG, "keeper"), ("l-2", other, "keeper"))
    lines: list[str] = []
    config = load_config(config_file, [f"decontaminate.near={near}"])
    with open_run(config, quiet, lines.append) as run:
        read_tasks(run)
    accepted, rejected = committed(run.ledger)
    stays = near == "report"
    assert ("letters/train/l-2" in {row.problem_id for row in accepted}) == stays
    listed = run.run_dir / NEAR_LIST
    if stays:
        assert counts_by_task(run.ledger, "problems")["letters"].near_duplicates == 1
        assert any("1 of the accepted nearly repeat another row" in line for line in lines)
        [said] = map(json.loads, listed.read_text().splitlines())
        assert (said["problem_id"], said["partner"]) == ("letters/train/l-2", "letters/train/l-1")
    else:
        [row] = [row for row in rejected if row.reason == "near_duplicate"]
        assert "nearly the same question as letters/train/l-1 (alike by 0." in row.detail
        assert not listed.exists()
    assert verify(run.run_dir).findings == []


def test_what_a_dead_driver_left_is_removed(config_file: Path) -> None:
    config = load_config(config_file)
    with open_run(config, quiet) as run:
        read_tasks(run)
        left = run.run_dir / f"{FOLDER}abc"
        left.mkdir()
        (left / "sums.matches").write_text("half")
        before = committed(run.ledger)
        read_tasks(run)
        assert committed(run.ledger) == before
        assert not left.exists()


def test_training_on_the_held_out_rows_ends_the_run(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_bytes((tmp_path / "sums.jsonl").read_bytes())
    refused = pytest.raises(TooManyRejections, match="most for contaminated")
    with open_run(load_config(config_file), quiet) as run, refused:
        read_tasks(run)
