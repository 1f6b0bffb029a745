"""What a preview tells of the whole run, beside the whole run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.preview.config import preview_config
from orca2_gen.preview.whole_run import StageNeeds, groups_of, whole_run
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.engine_figures import read_figures
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from tests.conftest import FinishedRun, quiet, rule_of, write_run_config


@dataclass(frozen=True)
class Previewed:
    config: Config
    ledger: Ledger
    needs: dict[str, StageNeeds]
    low: float
    high: float


def previewed(config: Config, run_dir: Path, num_rows: int) -> Previewed:
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    with open_run(preview_config(config, num_rows, str(run_dir)), quiet) as run:
        run_all(run)
    ledger = read_ledger(run_dir)
    needs, rows = whole_run(config, rule_of(config), ledger, read_figures(run_dir))
    return Previewed(
        config=config,
        ledger=ledger,
        needs={each.stage: each for each in needs},
        low=rows.low,
        high=rows.high,
    )


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


def test_the_whole_run_has_the_problems_and_rows_that_its_preview_tells(
    small: Previewed, undisturbed: FinishedRun
) -> None:
    whole = read_ledger(undisturbed.run_dir)
    names = {group.name for group in groups_of(small.config, small.ledger)}
    assert names == {receipt.group for receipt in whole.committed("problems")}
    rows_made = sum(receipt.counts["accepted"] for receipt in whole.committed("examples"))
    assert small.low <= rows_made <= small.high
    scored = len(committed_rows(whole, "scores", StudentScore))
    # The races end sooner or later than is likely, but never after the grid.
    assert scored <= small.needs["scores"].rows.high <= 24 * 6
    assert small.needs["scores"].rows.value == pytest.approx(scored, rel=0.35)
    taught = sum(receipt.taken_in for receipt in whole.committed("rationales"))
    assert small.needs["rationales"].rows.low <= taught <= small.needs["rationales"].rows.high


def test_a_full_grid_takes_exactly_the_answers_that_its_preview_tells(
    chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    selection = 'method = "full_grid"'
    config = load_config(write_run_config(tmp_path, chatml_dir, selection=selection))
    few = previewed(config, tmp_path / "preview", 3)
    scored = few.needs["scores"]
    groups = groups_of(config, few.ledger)
    assert len(groups) == 2
    expected = sum(min(12, group.num_problems) for group in groups) * 6
    assert scored.rows.value == scored.rows.low == scored.rows.high == expected
    tokens = [s.num_completion_tokens for s in committed_rows(few.ledger, "scores", StudentScore)]
    assert scored.generated_tokens.value == pytest.approx(
        expected * sum(tokens) / len(tokens), rel=0.5
    )


def test_a_policy_without_scores_needs_no_scores(
    chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    selection = 'policy = "fixed:step_by_step"'
    config = load_config(write_run_config(tmp_path, chatml_dir, selection=selection))
    few = previewed(config, tmp_path / "preview", 2)
    assert set(few.needs) == {"rationales"}
