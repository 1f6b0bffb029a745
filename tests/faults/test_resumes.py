"""Runs that go on after their files or inputs were changed (faults 19, 23 and 24)."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.records import Problem
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import Call, FinishedRun, Write, quiet
from tests.faults.faulty import asked, plant
from tests.faults.oracle import assert_whole
from tests.faults.test_files import DAMAGES, damage
from tests.ray_jobs.test_pipeline import dataset_bytes

pytestmark = pytest.mark.usefixtures("local_ray", "faulty_engines")


def test_19_a_fork_of_a_damaged_run_makes_the_damaged_unit_again_and_no_other(
    undisturbed: FinishedRun, run_copy: Path, tmp_path: Path
) -> None:
    ledger = read_ledger(run_copy)
    [victim, *_] = ledger.committed("rationales")
    [problems] = [r for r in ledger.committed("problems") if r.unit == victim.unit]
    wanted = {row.problem_id for row in read_records(run_copy, problems.accepted, Problem)}
    damage(run_copy / victim.accepted.path, "flipped")
    run_dir = tmp_path / "fork" / "run"
    plant(run_dir)
    said: list[str] = []
    config = load_config(undisturbed.config_file, [f"run_dir={run_dir}"])
    with open_run(config, quiet, said.append, fork=run_copy) as run:
        run_all(run)
    requests = [request.split("|", 4) for _, request in asked(run_dir)]
    assert {(role, problem_id) for role, *_, problem_id in requests} == {
        ("teacher", problem_id) for problem_id in wanted
    }
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said))


@pytest.mark.parametrize("how", sorted(DAMAGES))
def test_19_a_damaged_shard_of_the_dataset_is_made_again_without_an_engine(
    undisturbed: FinishedRun, tmp_path: Path, orca2: Call, how: str
) -> None:
    # A dataset's card bears the name of its run.
    run_dir = tmp_path / "copy" / undisturbed.run_dir.name
    shutil.copytree(undisturbed.run_dir, run_dir)
    plant(run_dir)
    [shard, *_] = sorted((run_dir / "dataset").glob("data-*.arrow"))
    damage(shard, how)
    code, out, err = orca2("run", undisturbed.config_file, "--set", f"run_dir={run_dir}")
    assert code == 0, out + err
    assert asked(run_dir) == []
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


def test_23_a_task_file_that_changes_after_it_was_read_changes_no_row_and_the_next_run_says_so(
    undisturbed: FinishedRun, write_config: Write, orca2: Call, tmp_path: Path
) -> None:
    config_file = write_config(tmp_path / "own")
    config = load_config(config_file)
    run_dir = Path(config.run_dir)
    changed = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        if stage == "scores":
            with (config_file.parent / "sums.jsonl").open("a") as file:
                file.write('{"id": "new", "question": "What is 1 + 1?", "answer": "2"}\n')
            changed.append(stage)
        yield lambda receipt: None

    with open_run(config, track) as run:
        run_all(run)
    assert changed == ["scores"]
    assert_whole(run_dir, undisturbed.run_dir)
    before = (run_dir / "ledger.jsonl").read_bytes()
    code, _, err = orca2("run", config_file)
    assert code == 2
    [reason] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "sums" in reason and "--fork" in reason
    assert (run_dir / "ledger.jsonl").read_bytes() == before


def test_24_an_archive_that_was_cut_off_stops_the_run_by_its_name(
    write_config: Write, orca2: Call, tmp_path: Path
) -> None:
    config_file = write_config(tmp_path / "own")
    whole = gzip.compress((config_file.parent / "sums.jsonl").read_bytes())
    (config_file.parent / "sums.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    config_file.write_text(config_file.read_text().replace("sums.jsonl", "sums.jsonl.gz"))
    code, out, err = orca2("run", config_file)
    assert code not in (0, 3), out + err
    [reason] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "sums.jsonl.gz" in reason
