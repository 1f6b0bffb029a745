"""Runs of an older grader, regraded by Ray tasks.

The completions are a scripted engine's; stored verdicts and selections are those that the older
grader would have made from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from click.testing import CliRunner

from orca2_gen.cli import cli
from orca2_gen.config.load import load_config, resolved
from orca2_gen.config.schema import Config
from orca2_gen.evaluations.about import unit_prefix
from orca2_gen.evaluations.accuracies import evaluations
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.evaluation_keys import evaluation_key
from orca2_gen.provenance.fork import take_over
from orca2_gen.provenance.inputs import Inputs, read_inputs
from orca2_gen.provenance.recorded import record_stages
from orca2_gen.provenance.stage_keys import stage_determinants, stage_keys
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import SURVIVORS, Block, Group, block_unit
from orca2_gen.selection.decision import next_step, survivor_bits
from orca2_gen.strategies import load_strategies
from ray_jobs.dispatch.receipts import ready_refs
from ray_jobs.dispatch.unit_receipts import REGRADED, token_counts
from ray_jobs.evaluation import evaluate_model
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.regrading.leases import Older, RegradeGroupLease
from ray_jobs.regrading.regrade import Regrading, regrade, regrade_lease
from ray_jobs.regrading.stages import regrade_group
from ray_jobs.run import open_run
from ray_jobs.stages import file_work, tally_of
from ray_jobs.units import committed_problems, groups, is_decided
from tests.conftest import FinishedRun, quiet, rule_of, source_of, write_run_config
from tests.ray_jobs.test_pipeline import dataset_bytes

pytestmark = pytest.mark.usefixtures("local_ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

OLDER = GRADER_VERSION - 1
RACE = ("selection.method=race", "selection.delta=0.9")
GROWN = (*RACE, "selection.open_requests=60")
"""Blocks grow as strategies drop out, so that their bounds differ from a full grid's."""
EVALUATION = """
[[evaluation.tasks]]
name = "sums"
format = "jsonl"
path = "held_out.jsonl"
answer_type = "numeric"
split = "test"
[decontaminate]
contamination = false  # the file is a copy of a task's
"""

Verdict = Callable[[StudentScore], StudentScore]


@pytest.fixture(scope="module")
def graded(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> FinishedRun:
    """A whole run that scored every problem under every strategy, and its evaluation."""
    folder = tmp_path_factory.mktemp("graded")
    sections = 'messages = ["cautious", "empty"]'
    file = write_run_config(
        folder,
        chatml_dir,
        sections=f"[evaluation]\n{sections}\n{EVALUATION}",
        selection='method = "full_grid"',
    )
    file.write_text(file.read_text().replace("scored_problems = 12", "scored_problems = 28"))
    shutil.copy(folder / "sums.jsonl", folder / "held_out.jsonl")
    config = load_config(file)
    with open_run(config, quiet) as run:
        run_all(run)
        evaluate_model(run, "student")
    return FinishedRun(config_file=file, config=config, run_dir=Path(config.run_dir))


def same(score: StudentScore) -> StudentScore:
    return score


def cannot_read_working(score: StudentScore) -> StudentScore:
    """The verdict of a grader that finds no answer after working."""
    if not score.text.startswith("Let us see."):
        return score
    return dataclasses.replace(score, outcome="unparsed", score=0.0, answer="")


def reads_no_steps(score: StudentScore) -> StudentScore:
    """The verdict of a grader that reads all but one strategy's answers."""
    return cannot_read_working(score) if score.strategy == "step_by_step" else score


def older_run(
    graded: FinishedRun,
    run_dir: Path,
    *sets: str,
    verdict: Verdict = same,
    lost: frozenset[str] = frozenset(),
    grader: int = OLDER,
) -> Path:
    """The run that another grader and other settings make from the same completions.

    Problems in `lost` killed their engines.
    """
    config = load_config(graded.config_file, [*sets, f"run_dir={run_dir}"])
    determinants = stage_determinants(config, read_inputs(config))
    for stage in ("scores", "rationales"):
        determinants[stage]["grader"] = grader
    keys = stage_keys(determinants)
    before, after = read_ledger(graded.run_dir), read_ledger(run_dir, writable=True)
    kept = before.committed("problems") + before.committed("evaluation_problems")
    take_over(before, after, kept)
    units = {
        p.problem_id: r.unit
        for r in before.committed("problems")
        for p in rows_of(graded.run_dir, r)
    }
    cells = {
        (s.problem_id, s.strategy): verdict(s)
        for r in before.committed("scores")
        for s in rows_of(before.run_dir, r)
    }
    for task in config.tasks:
        own = {i: unit for i, unit in units.items() if i.startswith(f"{task.name}/")}
        after.commit(_raced(config, keys, own, cells, lost))
    after.commit(_evaluated(config, keys, graded.run_dir, run_dir, verdict, grader))
    record_stages(after, resolved(config), determinants, keys, load_strategies(config.strategies))
    return run_dir


def _raced(
    config: Config,
    keys: dict[str, str],
    units: dict[str, str],
    cells: dict[tuple[str, str], StudentScore],
    lost: frozenset[str],
) -> Iterator[Receipt]:
    """The receipts of a group's blocks, by a race or a full grid, and of its selection.

    `units` maps the group's problems to their units.
    """
    run_dir, rule, ids = Path(config.run_dir), rule_of(config), list(units)
    group = Group(
        name=ids[0].partition("/")[0], num_problems=len(ids), num_groups=len(config.tasks)
    )
    blocks: list[list[StudentScore]] = []
    while isinstance(step := next_step(group, rule, dict(enumerate(blocks))), Block):
        asked = [ids[number] for number in step.problems]
        blocks.append([cells[i, name] for name in step.strategies for i in asked if i not in lost])
        rejected = [
            Rejection(problem_id=i, stage="scores", reason="engine_died", detail="twice")
            for i in asked
            if i in lost
        ]
        bits = (
            {SURVIVORS: survivor_bits(group, rule, dict(enumerate(blocks)))} if rule.is_race else {}
        )
        counts = token_counts(blocks[-1]) | bits
        name = UnitName(
            stage="scores",
            stage_key=keys["scores"],
            unit=block_unit(group, step.index),
            group=group.name,
        )
        yield write_unit(run_dir, name, blocks[-1], StudentScore, rejected, counts)
    name = UnitName(
        stage="selections", stage_key=keys["selections"], unit=group.stem, group=group.name
    )
    yield write_unit(run_dir, name, [step], Selection)


def _evaluated(
    config: Config,
    keys: dict[str, str],
    graded_dir: Path,
    run_dir: Path,
    verdict: Verdict,
    grader: int,
) -> Iterator[Receipt]:
    """The receipts of the student's evaluation."""
    problems_key = keys["evaluation_problems"]
    inputs = read_inputs(config)
    key = evaluation_key(config, config.student, problems_key, inputs, grader)
    now = evaluation_key(config, config.student, problems_key, inputs)
    for receipt in read_ledger(graded_dir).committed("evaluation"):
        unit = unit_prefix("student", key) + receipt.unit.removeprefix(f"student-{now[:8]}-")
        rows = [verdict(s) for s in rows_of(graded_dir, receipt)]
        name = UnitName(stage="evaluation", stage_key=key, unit=unit, group=receipt.group)
        yield write_unit(run_dir, name, rows, StudentScore, (), token_counts(rows))


RECORD = {"problems": Problem, "evaluation_problems": Problem}


def rows_of(run_dir: Path, receipt: Receipt) -> list[Any]:
    """A unit's rows, then its rejections."""
    rows: list[Any] = read_records(
        run_dir, receipt.accepted, RECORD.get(receipt.stage, StudentScore)
    )
    if receipt.stage in RECORD:
        return rows
    return rows + [r for e in receipt.files[1:] for r in read_records(run_dir, e, Rejection)]


def scores_of(run_dir: Path) -> dict[str, list[Any]]:
    """Unit -> its rows and rejections."""
    return {r.unit: rows_of(run_dir, r) for r in read_ledger(run_dir).committed("scores")}


def counts_of(run_dir: Path) -> dict[str, dict[str, int]]:
    """Unit -> the counts of its receipt."""
    committed = read_ledger(run_dir).committed("scores")
    return {r.unit: {k: n for k, n in r.counts.items() if k != REGRADED} for r in committed}


def files_of(run_dir: Path) -> dict[str, str]:
    """Every file and its digest."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run_dir.rglob("*"))
        if path.is_file()
    }


def config_of(graded: FinishedRun, run_dir: Path, *sets: str) -> Config:
    return load_config(graded.config_file, [*sets, f"run_dir={run_dir}"])


def regraded(config: Config, source: Path) -> Regrading:
    with open_run(config, quiet) as run:
        return regrade(run, source_of(source, config))


def only_regraded(run_dir: Path) -> bool:
    return all(REGRADED in r.counts for r in read_ledger(run_dir).committed("scores"))


@pytest.mark.parametrize("sets", [(), RACE, GROWN], ids=["full_grid", "race", "grown"])
@pytest.mark.parametrize("grader", [OLDER, GRADER_VERSION])
def test_verdicts_that_were_right_stay_row_for_row_and_so_do_the_selections(
    graded: FinishedRun, tmp_path: Path, sets: tuple[str, ...], grader: int
) -> None:
    lost = frozenset(["sums/train/s3", "letters/train/5"])
    source = older_run(graded, tmp_path / "old", *sets, lost=lost, grader=grader)
    files = files_of(source)
    config = config_of(graded, tmp_path / "run", *sets)
    found = regraded(config, source)
    run_dir = Path(config.run_dir)
    assert scores_of(run_dir) == scores_of(source)
    assert counts_of(run_dir) == counts_of(source)
    assert selections(run_dir) == selections(source)
    assert verify(run_dir).findings == []
    assert "no winner differs" in found.lines
    assert f"grader {grader} -> {GRADER_VERSION}" in found.lines[0]
    for changes in found.changes.values():
        assert changes.num_cells and changes.before == changes.after
        assert changes.now_correct == changes.now_not_correct == changes.other == 0
    ledger = (run_dir / "ledger.jsonl").read_bytes()
    again = regraded(config, source)
    assert again == found
    assert (run_dir / "ledger.jsonl").read_bytes() == ledger
    assert files_of(source) == files


def test_corrected_verdicts_change_the_winner_and_the_run_goes_on_to_its_end(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", verdict=cannot_read_working)
    config = config_of(graded, tmp_path / "new" / "run")
    found = regraded(config, source)
    run_dir = Path(config.run_dir)
    assert scores_of(run_dir) == scores_of(graded.run_dir)
    before = {s.group: s.strategy for s in selections(source)}
    after = {s.group: s.strategy for s in selections(run_dir)}
    assert before == {"sums": "direct_answer", "letters": "direct_answer"}
    assert after == {s.group: s.strategy for s in selections(graded.run_dir)}
    assert f"sums: {after['sums']} wins, it was direct_answer" in found.lines
    steps = found.changes["scores", "sums", "step_by_step"]
    assert steps.before == 0.0 and steps.now_correct == steps.after * steps.num_cells > 0
    assert steps.now_correct + steps.other == steps.num_cells == 28
    direct = found.changes["scores", "sums", "direct_answer"]
    assert direct.before == direct.after > 0.0 and direct.other == 0
    with open_run(config, quiet) as run:
        run_all(run)
    assert only_regraded(run_dir)
    assert dataset_bytes(run_dir) == dataset_bytes(graded.run_dir)
    whole = verify(run_dir)
    assert (whole.findings, whole.notes) == ([], [])


def test_an_evaluation_is_regraded_and_not_asked_again(graded: FinishedRun, tmp_path: Path) -> None:
    source = older_run(graded, tmp_path / "old", verdict=cannot_read_working)
    config = config_of(graded, tmp_path / "run")
    found = regraded(config, source)
    [cautious, empty] = [c for (stage, *_), c in found.changes.items() if stage != "scores"]
    assert cautious.before == empty.before == 0.0 < min(cautious.after, empty.after)
    with open_run(graded.config, quiet) as run:
        evaluate_model(run, "student")
        expected = evaluations(run.ledger)
    with open_run(config, quiet) as run:
        ledger = dict(run.ledger.units)
        assert evaluations(run.ledger) == expected
        evaluate_model(run, "student")
        assert evaluations(run.ledger) == expected
        assert run.ledger.units == ledger


def test_an_evaluation_under_a_strategy_is_regraded_too(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = tmp_path / "old"
    asked = 'evaluation.messages=["step_by_step", "direct_answer"]'
    with open_run(config_of(graded, source, asked), quiet) as run:
        evaluate_model(run, "student")
        expected = evaluations(run.ledger)
    config = config_of(graded, tmp_path / "run")
    regraded(config, source)
    assert evaluations(read_ledger(tmp_path / "run")) == expected


def test_an_evaluation_with_other_settings_is_left_behind_and_reported(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old")
    config = config_of(graded, tmp_path / "run", "evaluation.max_tokens=99")
    found = regraded(config, source)
    assert read_ledger(Path(config.run_dir)).committed("evaluation") == []
    assert any(line.startswith("evaluation: 0 of") for line in found.lines)
    assert any("--model" in line for line in found.lines)


def test_a_strategy_that_had_fallen_and_is_in_again_is_scored_by_an_engine(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", *RACE, verdict=reads_no_steps)
    expected = older_run(graded, tmp_path / "expected", *RACE)
    config = config_of(graded, tmp_path / "run", *RACE)
    run_dir = Path(config.run_dir)
    found = regraded(config, source)
    partly = scores_of(run_dir)
    assert partly.items() < scores_of(expected).items()
    assert only_regraded(run_dir) and verify(run_dir).findings == []
    with open_run(config, quiet) as run:
        open_ = [g.name for g in groups(committed_problems(run)) if not is_decided(run, g)]
        assert "sums" in open_ and found.lines[-1].startswith("open: ")
        assert all(f"{name} (it was " in found.lines[-1] for name in open_)
        run_all(run)
    assert scores_of(run_dir) == scores_of(expected)
    assert counts_of(run_dir) == counts_of(expected)
    assert selections(run_dir) == selections(expected)
    assert not only_regraded(run_dir)
    whole = verify(run_dir)
    assert (whole.findings, whole.notes) == ([], [])
    assert regraded(config, source).changes == found.changes


def test_a_strategy_that_falls_now_leaves_its_later_cells_behind(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", *RACE, verdict=cannot_read_working)
    full_grid = older_run(graded, tmp_path / "grid")
    expected = older_run(graded, tmp_path / "expected", *RACE)
    for number, each in enumerate((full_grid, source)):
        config = config_of(graded, tmp_path / f"{number}" / "run", *RACE)
        regraded(config, each)
        run_dir = Path(config.run_dir)
        got, wanted = scores_of(run_dir), scores_of(expected)
        assert got.items() <= wanted.items() and verify(run_dir).findings == []
        if each is full_grid:
            assert got == wanted and counts_of(run_dir) == counts_of(expected)
            assert selections(run_dir) == selections(expected)
            cells = {unit: len(rows) for unit, rows in scores_of(full_grid).items()}
            assert any(len(rows) < cells[unit] for unit, rows in got.items())


def test_completions_follow_their_problems_to_other_units_and_groups(
    graded: FinishedRun, tmp_path: Path
) -> None:
    by_category = "selection.select_by=category"
    source = tmp_path / "old"
    with open_run(config_of(graded, source, by_category), quiet) as run:
        read_tasks(run)
        score_student(run)
        select_strategies(run)
        evaluate_model(run, "student")
        expected = evaluations(run.ledger)
    before = scores_of(source)
    rows = [json.loads(line) for line in sound_lines(graded.config_file.parent / "sums.jsonl")]
    rows = [row | {"category": "words"} for row in reversed(rows) if row["id"] != "s7"]
    moved = tmp_path / "moved.jsonl"
    moved.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    held_out = tmp_path / "held_out.jsonl"
    lines = sound_lines(graded.config_file.parent / "held_out.jsonl")
    held_out.write_text("".join(f"{line}\n" for line in reversed(lines)))
    paths = (f"tasks.0.path={moved}", f"evaluation.tasks.0.path={held_out}")
    config = config_of(graded, tmp_path / "run", by_category, *paths)
    found = regraded(config, source)
    with open_run(config, quiet) as run:
        evaluate_model(run, "student")
        assert evaluations(run.ledger) == expected
    assert all(REGRADED in r.counts for r in read_ledger(run.run_dir).committed("evaluation"))
    assert (
        "match by id and prompt (in other words: 0, new: 0, only in the older run: 1 of "
        in (found.lines[0])
    )
    after = scores_of(Path(config.run_dir))
    assert {r.group for r in read_ledger(Path(config.run_dir)).committed("scores")} == {
        "words",
        "letters",
    }
    old = {(s.problem_id, s.strategy): s for scores in before.values() for s in scores}
    new = {(s.problem_id, s.strategy): s for scores in after.values() for s in scores}
    assert new == {cell: row for cell, row in old.items() if cell[0] != "sums/train/s7"}
    assert only_regraded(Path(config.run_dir))
    assert sum(c.num_cells for (stage, *_), c in found.changes.items() if stage == "scores") == len(
        new
    )
    assert verify(Path(config.run_dir)).findings == []


def sound_lines(file: Path) -> list[str]:
    """The lines of the task file that hold a problem, each id once."""
    return list(dict.fromkeys(line for line in file.read_text().splitlines() if '"id"' in line))


def test_a_race_becomes_a_full_grid_with_only_the_missing_blocks_scored(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", *RACE)
    config = config_of(graded, tmp_path / "run")
    regraded(config, source)
    run_dir = Path(config.run_dir)
    whole = scores_of(graded.run_dir)
    partly = scores_of(run_dir)
    assert partly and partly.items() < whole.items()
    assert {unit for unit, rows in scores_of(source).items() if rows == whole[unit]} == set(partly)
    with open_run(config, quiet) as run:
        score_student(run)
    assert scores_of(run_dir) == whole


def test_a_task_that_dies_between_two_blocks_of_a_race_is_done_once(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", *RACE)
    config = config_of(graded, tmp_path / "run", *RACE)

    def dies_once(
        run_dir: Path, config: Config, inputs: Inputs, lease: RegradeGroupLease
    ) -> Iterator[Receipt]:
        receipts = regrade_group(run_dir, config, inputs, lease)
        yield next(receipts)
        if lease.attempt == 1:
            os._exit(1)
        yield from receipts

    old = source_of(source, config)
    with open_run(config, quiet) as run:
        kept = old.ledger.committed("problems") + old.ledger.committed("evaluation_problems")
        take_over(old.ledger, run.ledger, kept)
        problems, older = committed_problems(run), Older(ledger=old.ledger, groups=None)
        found = [regrade_lease(run, each, problems, older) for each in groups(problems)]
        leases = [lease for lease in found if lease is not None]
        work = file_work(run, dies_once, leases, tally_of(run, "scores"), lambda receipt: None)
        while not work.is_done:  # all is committed at the end, and a death may be seen before
            work.grant(())
            work.take(set(ready_refs(work.refs, 1.0)))
        run.ledger.commit(work.taken)
    run_dir = Path(config.run_dir)
    assert scores_of(run_dir) == scores_of(source)
    assert counts_of(run_dir) == counts_of(source)
    attempts = {r.attempt for r in read_ledger(run_dir).committed("scores")}
    assert attempts == {1, 2}


def test_a_damaged_file_is_one_line_and_its_unit_is_made_once_it_is_restored(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old")
    ledger = read_ledger(source)
    config = config_of(graded, tmp_path / "run")
    run_dir = Path(config.run_dir)
    for stage in ("problems", "scores"):
        victim = source / ledger.committed(stage)[-1].accepted.path
        body = victim.read_bytes()
        victim.unlink()  # a hard link to another run's file
        victim.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        with pytest.raises(DamagedFile, match=victim.name) as found:
            regraded(config, source)
        assert "\n" not in str(found.value)
        assert verify(run_dir).findings == []
        if stage == "problems":
            assert read_ledger(run_dir).units == {}
        victim.unlink()
        with pytest.raises(DamagedFile, match="is listed but absent"):
            regraded(config, source)
        victim.write_bytes(body)
    regraded(config, source)
    assert scores_of(run_dir) == scores_of(source)
    assert verify(run_dir).findings == []


def test_the_command_prints_what_changed_and_changes_no_other_run(
    graded: FinishedRun, tmp_path: Path
) -> None:
    source = older_run(graded, tmp_path / "old", verdict=cannot_read_working)
    files = files_of(source)
    arguments = ["regrade", str(graded.config_file), "--set", f"run_dir={tmp_path / 'run'}"]
    arguments += ["--from", str(source)]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    second = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert first.exit_code == second.exit_code == 0
    assert "step by step" in first.stdout and "it was direct_answer" in first.stdout
    assert f"scores: 10 units regraded from 10, grader {OLDER} -> {GRADER_VERSION}" in first.stdout
    assert second.stdout == first.stdout
    refused = CliRunner().invoke(cli, [*arguments, "--set", "selection.block_size=3"])
    assert isinstance(refused.exception, ValueError)
    assert "block_size: 4 -> 3" in str(refused.exception)
    assert files_of(source) == files


def selections(run_dir: Path) -> list[Selection]:
    return committed_rows(read_ledger(run_dir), "selections", Selection)
