"""What an estimate says before a run, beside what the run then took."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from orca2_gen.config.arguments import engines_by_stage, selection_rule
from orca2_gen.config.schema import Config
from orca2_gen.estimates.observed import Observed, observed_beside
from orca2_gen.estimates.planned import planned_engines
from orca2_gen.estimates.reading import ReadTasks, read_tasks
from orca2_gen.estimates.to_come import teaching_to_come
from orca2_gen.estimates.whole_run import Known, whole_run
from orca2_gen.foresight.expected import Expected
from orca2_gen.foresight.needs import WholeRun
from orca2_gen.provenance.inputs import read_texts
from orca2_gen.records import Example, Problem
from orca2_gen.run_directory.engine_figures import EngineFigures, read_figures
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import NUM_BAD, NUM_LETTERS, NUM_SUMS, FinishedRun


def known_of(config: Config, observed: list[Observed]) -> Known:
    inputs = read_texts(config)
    *_, tasks = read_tasks(config, inputs)
    assert isinstance(tasks, ReadTasks)
    devices = {role: (False, 0) for role, _ in engines_by_stage(config).values()}
    return Known(
        config=config,
        strategies=inputs.strategies,
        rule=selection_rule(config, inputs.strategies),
        tasks=tasks,
        engines=planned_engines(config, "", devices),
        observed=observed,
        peaks={},
    )


def holds(number: Expected | None, truth: float) -> bool:
    assert number is not None
    return number.low <= truth <= number.high


def made_by(run: FinishedRun, stage: str) -> list[EngineFigures]:
    return [each for each in read_figures(run.run_dir).values() if each.stage == stage]


def lasted_in(engines: list[EngineFigures]) -> float:
    """The seconds of a stage on one engine, its start included."""
    return sum((each.start_seconds or 0.0) + each.busy_seconds for each in engines)


@pytest.fixture(scope="module")
def before(undisturbed: FinishedRun) -> WholeRun:
    return whole_run(known_of(undisturbed.config, []))


@pytest.fixture(scope="module")
def after(undisturbed: FinishedRun) -> WholeRun:
    return whole_run(known_of(undisturbed.config, observed_beside(undisturbed.run_dir)))


def test_the_tasks_are_counted_as_the_run_counts_them(undisturbed: FinishedRun) -> None:
    tasks = known_of(undisturbed.config, []).tasks
    problems = committed_rows(read_ledger(undisturbed.run_dir), "problems", Problem)
    assert tasks.num_rows == NUM_SUMS + NUM_LETTERS + NUM_BAD
    assert tasks.num_problems == len(problems)
    assert tasks.sizes == {
        name: sum(problem.task == name for problem in problems) for name in ("sums", "letters")
    }


@pytest.mark.parametrize("stage", ["scores", "rationales"])
def test_a_run_takes_what_was_expected_of_it(
    undisturbed: FinishedRun, before: WholeRun, after: WholeRun, stage: str
) -> None:
    engines = made_by(undisturbed, stage)
    answers = [answers for each in engines for answers in each.answers.values()]
    for found in (before, after):
        [needs] = [each for each in found.stages if each.stage == stage]
        assert holds(needs.rows, sum(num for each in engines for num in each.rows.values()))
    [needs] = [each for each in after.stages if each.stage == stage]
    assert holds(needs.requests, sum(each.requests for each in answers))
    assert holds(needs.prompt_tokens, sum(each.prompt_tokens for each in answers))
    assert holds(needs.generated_tokens, sum(each.completion_tokens for each in answers))
    assert holds(needs.seconds, lasted_in(engines))


def test_rows_lie_where_they_were_expected(
    undisturbed: FinishedRun, before: WholeRun, after: WholeRun
) -> None:
    made = len(committed_rows(read_ledger(undisturbed.run_dir), "examples", Example))
    for found in (before, after):
        assert holds(found.rows, made)


def test_a_run_narrows_the_next_estimate(before: WholeRun, after: WholeRun) -> None:
    for first, second in zip(before.stages, after.stages, strict=True):
        assert first.engine_seconds is None and second.engine_seconds is not None
        wide, narrow = first.generated_tokens, second.generated_tokens
        assert narrow.high / narrow.low < wide.high / wide.low


def test_what_cannot_be_read_of_earlier_runs_is_left_out(run_copy: Path) -> None:
    whole = observed_beside(run_copy)
    figures = sorted((run_copy / "engines").glob("*.json"))
    figures[0].write_text("{torn")
    (run_copy / "config.json").write_text(json.dumps({"config": 3}))
    (run_copy / "ledger.jsonl").write_text("damaged\n")
    left = observed_beside(run_copy)
    assert 0 < len(left) < len(whole)
    assert all(not each.row_bytes and not each.num_taught for each in left)


def test_only_runs_are_looked_at_and_the_planned_one_comes_first(run_copy: Path) -> None:
    (run_copy.parent / "no-run" / "engines").mkdir(parents=True)
    preview = run_copy.rename(run_copy.with_name("mine-preview-2"))
    found = observed_beside(preview.with_name("mine"))
    assert {each.source for each in found if each.is_own} == {"mine-preview-2"}
    assert not any(each.is_own for each in observed_beside(preview.with_name("other")))


def test_teaching_to_come_is_told_as_soon_as_a_run_has_taught(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    lasted = lasted_in(made_by(undisturbed, "rationales"))
    assert holds(teaching_to_come(undisturbed.config), lasted)
    elsewhere = undisturbed.config.model_copy(update={"run_dir": str(tmp_path / "run")})
    assert teaching_to_come(elsewhere) is None


def test_what_is_still_taught_is_no_rejection(undisturbed: FinishedRun, run_copy: Path) -> None:
    [whole] = [each for each in observed_beside(run_copy) if each.stage == "rationales"]
    lines = (run_copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"stage":"dataset"' not in line]
    first = next(i for i, line in enumerate(kept) if b'"examples"' in line)
    (run_copy / "ledger.jsonl").write_bytes(b"".join(kept[: first + 1]))
    (run_copy / "ledger.tip.json").unlink()
    [part] = [each for each in observed_beside(run_copy) if each.stage == "rationales"]
    assert 0 < part.num_taught < whole.num_taught
    assert 0 < part.num_examples < whole.num_examples


@pytest.mark.parametrize(("per_problem", "max_attempts"), [(1, 1), (1, 2), (3, 4), (4, 16)])
def test_attempts_are_between_those_that_are_needed_and_those_that_are_made(
    undisturbed: FinishedRun, per_problem: int, max_attempts: int
) -> None:
    rationales = undisturbed.config.rationales.model_copy(
        update={"per_problem": per_problem, "max_attempts": max_attempts}
    )
    config = undisturbed.config.model_copy(update={"rationales": rationales})
    known = known_of(config, [])
    found = whole_run(known)
    requests, num = found.stages[-1].requests, known.tasks.num_problems
    assert requests.low == pytest.approx(per_problem * num)
    assert requests.low <= requests.value <= requests.high
    assert requests.high == pytest.approx(max_attempts * num)
    assert found.rows.value <= found.rows.high <= per_problem * num


def test_no_accepted_row_so_far_is_no_certainty(undisturbed: FinishedRun) -> None:
    observed = [
        dataclasses.replace(each, num_examples=0, num_taught=min(8, each.num_taught))
        for each in observed_beside(undisturbed.run_dir)
    ]
    rows = whole_run(known_of(undisturbed.config, observed)).rows
    assert rows.value == 0.0 and rows.low == 0.0 and 5 < rows.high < 25


def test_neighbours_of_any_kind_are_passed_by(run_copy: Path) -> None:
    before = observed_beside(run_copy)
    os.mkfifo(run_copy.parent / "fifo")
    (run_copy.parent / "gone").symlink_to("nowhere")
    (run_copy.parent / "file").write_text("x")
    other = run_copy.parent / "other"
    (other / "engines").mkdir(parents=True)
    (other / ".orca2-run").write_text("")
    (other / "config.json").write_text("[1]")
    (other / "engines" / "a.b.json").write_text('{"start": 3}')
    os.mkfifo(other / "ledger.jsonl")
    assert observed_beside(run_copy) == before
