from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca2_gen.cli import cli
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance.trace import trace
from orca2_gen.records import Problem, Rationale, Rejection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import write_run_config
from tests.provenance.test_row_origins import ran
from tests.test_older_run import MADE_AT, OLDER_RUN


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the older run, moved to where its config and models lie now."""
    run_dir = tmp_path_factory.mktemp("trace") / "RUN"
    shutil.copytree(OLDER_RUN / "RUN", run_dir)
    config = run_dir / "config.json"
    config.write_text(config.read_text().replace(MADE_AT, str(OLDER_RUN)))
    return run_dir


def rejections(run_dir: Path) -> list[Rejection]:
    ledger = read_ledger(run_dir)
    files = [receipt.rejections for receipt in ledger.units.values()]
    return [row for file in files if file for row in read_records(run_dir, file, Rejection)]


def test_a_trained_problem_is_shown_from_its_task_to_its_row(run_dir: Path) -> None:
    ledger = read_ledger(run_dir)
    scores = committed_rows(ledger, "scores", StudentScore)
    rationales = {row.problem_id: row for row in committed_rows(ledger, "rationales", Rationale)}
    root = run_dir / "dataset"
    examples = list(read_examples(root, checked_manifest(root)))
    assert examples
    for row, example in enumerate(examples):
        steps = trace(run_dir, example.problem_id)
        stages = [step.stage for step in steps]
        assert stages[0] == "problems" and stages[-3:] == ["rationales", "examples", "dataset"]
        assert stages.count("selections") == 1
        mine = [score for score in scores if score.problem_id == example.problem_id]
        shown = [step.lines for step in steps if step.stage == "scores"]
        assert len(shown) == len(mine)
        assert all(f"text: {score.text}" in sum(shown, ()) for score in mine)
        assert f"text: {rationales[example.problem_id].text}" in steps[-3].lines
        assert f"system: {rationales[example.problem_id].system}" in steps[-3].lines
        assert steps[-1].place.endswith(f"row {row}")


def test_every_step_names_the_line_of_the_ledger_that_lists_its_file(run_dir: Path) -> None:
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    for problem in committed_rows(read_ledger(run_dir), "problems", Problem):
        for step in trace(run_dir, problem.problem_id):
            if step.stage != "dataset":
                path, line = step.place.split(", ")[:2]
                assert f'"{path}"' in lines[int(line.removeprefix("ledger.jsonl:")) - 1]


def test_a_rejected_problem_is_shown_with_its_reason(run_dir: Path) -> None:
    assert rejections(run_dir)
    for rejection in rejections(run_dir):
        said = [line for step in trace(run_dir, rejection.problem_id) for line in step.lines]
        assert f"rejected: {rejection.reason}: {rejection.detail}" in said


def test_an_id_that_no_row_has_is_a_mistake_in_one_line(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="holds no row of 'letters/train/none'"):
        trace(run_dir, "letters/train/none")


def test_the_command_prints_nothing_that_moves_a_cursor(run_dir: Path) -> None:
    problem_id = committed_rows(read_ledger(run_dir), "problems", Problem)[0].problem_id
    done = CliRunner().invoke(cli, ["trace", str(run_dir), problem_id], catch_exceptions=False)
    assert done.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in done.output)
    assert "ledger.jsonl:" in done.output


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    """A run of this version whose teacher needs several attempts."""
    folder = tmp_path_factory.mktemp("fresh")
    return ran(write_run_config(folder, chatml_dir), "rationales.max_attempts=4")


def test_file_line_margin_and_every_attempt_of_a_problem_are_shown(fresh: Path) -> None:
    ledger = read_ledger(fresh)
    lines = {"sums": fresh.parent / "sums.jsonl", "letters": fresh.parent / "letters.jsonl"}
    taught = committed_rows(ledger, "rationales", Rationale)
    attempts = {row.problem_id: row.attempt for row in taught}
    assert max(attempts.values()) > 0
    for problem in committed_rows(ledger, "problems", Problem):
        steps = trace(fresh, problem.problem_id)
        where = f"{problem.source_file}:{problem.source_line}"
        assert steps[0].lines[0].endswith(f" (jsonl), {where}")
        row = lines[problem.task].read_text().splitlines()[problem.source_line - 1]
        assert json.loads(row)["question"] == problem.question
        [chosen] = [step for step in steps if step.stage == "selections"]
        assert chosen.lines[-1].startswith("margin over the best other strategy: +")
        said = [step.lines[0] for step in steps if step.stage == "rationales"]
        if problem.problem_id in attempts:
            refused = [line for line in said if line.startswith("refused as ")]
            last = attempts[problem.problem_id]
            assert [f"at attempt {n}," in line for n, line in enumerate(said)] == [True] * (
                last + 1
            )
            assert len(refused) == last and said[-1].startswith("accepted under ")
            assert f"source_line: {problem.source_line}" in steps[-1].lines
            assert f"attempt: {last}" in steps[-1].lines
        else:
            assert said[-1].startswith("rejected: ") and len(said) == 5


def test_an_id_that_is_not_there_brings_the_nearest_ones_in_one_line(fresh: Path) -> None:
    for wanted, near in (("sums/train/s", "'sums/train/s"), ("sums.jsonl:99", "'sums.jsonl:")):
        with pytest.raises(ValueError) as raised:
            trace(fresh, wanted)
        assert f"did you mean {near}" in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(ValueError) as raised:
        trace(fresh, "\u2603")
    assert "did you mean" not in str(raised.value)
