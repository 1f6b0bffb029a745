"""What a preview tells of the whole run, beside the whole run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.estimates.observed import observed_beside
from orca2_gen.estimates.whole_run import whole_run as estimate
from orca2_gen.foresight.needs import StageNeeds, WholeRun
from orca2_gen.preview.config import preview_config
from orca2_gen.preview.reading import Reading
from orca2_gen.preview.whole_run import whole_run
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.engine_figures import read_figures
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from tests.conftest import FinishedRun, quiet, rule_of, write_run_config
from tests.estimates.test_whole_run import known_of


@dataclass(frozen=True)
class Previewed:
    config: Config
    ledger: Ledger
    found: WholeRun

    @property
    def needs(self) -> dict[str, StageNeeds]:
        return {each.stage: each for each in self.found.stages}


def previewed(config: Config, run_dir: Path, num_rows: int) -> Previewed:
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    small = preview_config(config.model_copy(update={"run_dir": str(run_dir)}), num_rows)
    with open_run(small, quiet) as run:
        run_all(run)
    ledger = read_ledger(run_dir)
    found = whole_run(config, rule_of(config), ledger, read_figures(run_dir), num_rows)
    return Previewed(config=config, ledger=ledger, found=found)


@pytest.fixture(scope="module")
def small(undisturbed: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Previewed:
    """A preview of the undisturbed run."""
    return previewed(undisturbed.config, tmp_path_factory.mktemp("preview") / "run", 4)


def test_a_preview_scores_every_strategy_on_a_few_problems_of_each_task(small: Previewed) -> None:
    scores = committed_rows(small.ledger, "scores", StudentScore)
    assert {score.task for score in scores} == {"sums", "letters"}
    problems = {score.problem_id for score in scores}
    assert len(problems) == sum(r.counts["accepted"] for r in small.ledger.committed("problems"))
    assert len(problems) in (7, 8)  # a row that is drawn may be rejected
    names = rule_of(small.config).strategies
    assert sorted((s.problem_id, s.strategy) for s in scores) == sorted(
        (problem_id, name) for problem_id in problems for name in names
    )
    assert (small.ledger.run_dir / "dataset" / "manifest.json").is_file()


def test_the_whole_run_takes_and_gives_what_its_preview_tells(
    small: Previewed, undisturbed: FinishedRun
) -> None:
    whole = read_ledger(undisturbed.run_dir)
    rows_made = sum(receipt.counts["accepted"] for receipt in whole.committed("examples"))
    assert small.found.rows.low <= rows_made <= small.found.rows.high
    scored = len(committed_rows(whole, "scores", StudentScore))
    # The races end sooner or later than is likely, but never after the grid.
    assert scored <= small.needs["scores"].rows.high <= 24 * 6
    assert small.needs["scores"].rows.value == pytest.approx(scored, rel=0.35)
    taught = sum(receipt.taken_in for receipt in whole.committed("rationales"))
    assert small.needs["rationales"].rows.low <= taught <= small.needs["rationales"].rows.high
    assert small.found.notes == ()


def test_a_full_grid_takes_the_answers_and_tokens_that_its_preview_tells(
    chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    from ray_jobs.pipeline import read_tasks, score_student
    from ray_jobs.run import open_run

    sections = """
cautious_arm = true
method = "full_grid"
"""
    config = load_config(write_run_config(tmp_path, chatml_dir, selection=sections))
    few = previewed(config, tmp_path / "preview", 6)
    with open_run(config, quiet) as run:
        read_tasks(run)
        score_student(run)
        scores = committed_rows(run.ledger, "scores", StudentScore)
    told = few.needs["scores"]
    assert told.rows.value == told.rows.low == told.rows.high == len(scores)
    assert told.generated_tokens.value == pytest.approx(
        sum(score.num_completion_tokens for score in scores), rel=0.25
    )
    assert told.prompt_tokens.value == pytest.approx(
        sum(score.num_prompt_tokens for score in scores), rel=0.1
    )


def test_a_sample_of_the_whole_run_is_counted(
    chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    file = write_run_config(tmp_path, chatml_dir, selection='method = "full_grid"')
    config = load_config(file, ["tasks.1.rows_per_task=5", "tasks.0.rows_per_category=2"])
    few = previewed(config, tmp_path / "preview", 3)
    reading = Reading(config=config, ledger=few.ledger, num_rows=3)
    assert {g.name: g.num_problems for g in reading.groups()}["letters"] == 5
    assert few.found.notes == ("rows_per_category of sums is not counted",)


def test_a_policy_without_scores_needs_no_scores(
    chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    selection = 'policy = "fixed:step_by_step"'
    config = load_config(write_run_config(tmp_path, chatml_dir, selection=selection))
    few = previewed(config, tmp_path / "preview", 2)
    assert set(few.needs) == {"rationales"}


def test_a_plan_that_knows_the_preview_tells_what_the_run_takes(
    small: Previewed, undisturbed: FinishedRun
) -> None:
    observed = observed_beside(small.ledger.run_dir)
    found = estimate(known_of(undisturbed.config, observed))
    whole = read_ledger(undisturbed.run_dir)
    made = sum(receipt.counts["accepted"] for receipt in whole.committed("examples"))
    assert found.rows.low <= made <= found.rows.high
    for needs in found.stages:
        engines = [e for e in read_figures(undisturbed.run_dir).values() if e.stage == needs.stage]
        answers = [answers for each in engines for answers in each.answers.values()]
        tokens = sum(each.completion_tokens for each in answers)
        assert needs.generated_tokens.low <= tokens <= needs.generated_tokens.high
        requests = sum(each.requests for each in answers)
        assert needs.requests.low <= requests <= needs.requests.high
