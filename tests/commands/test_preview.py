from __future__ import annotations

import re
from pathlib import Path

import pytest

from orca2_gen.provenance.cost import stage_costs
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem
from orca2_gen.run_directory.engine_figures import read_figures
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from ray_jobs.demo import CONFIG
from tests.conftest import Call, write_run_config
from tests.ray_jobs.test_real_engines import SHORT, small


def test_a_preview_shows_prompts_answers_grades_and_rows_and_what_the_run_would_take(
    orca2: Call, chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    file = write_run_config(tmp_path, chatml_dir, day="")
    code, out, err = orca2("preview", file, "--rows", 2)
    assert code == 0, err
    run_dir = tmp_path / "run-preview"
    assert not (tmp_path / "run").exists()
    problems = committed_rows(read_ledger(run_dir), "problems", Problem)
    for problem in problems:
        assert f"unit {problem.task}-000000" in out
    assert out.count("trains on assistant: ") >= 1
    for name in ("direct_answer", "step_by_step", "recall_reason_generate"):
        assert re.search(rf"^  {name}: (in)?correct, answer .*, \d+ tokens", out, re.MULTILINE)
        assert f"system of {name}: " in out
    assert re.search(r"^the whole run: about \d+ rows \(\d+ to \d+\)", out, re.MULTILINE)
    assert out.splitlines()[-1] == f"a page about it: orca2 report {run_dir}"
    # Another setting makes another preview, and the same directory goes on if it is named.
    assert orca2("preview", file, "--rows", 1)[0] == 0
    assert (tmp_path / "run-preview-2").is_dir()
    before = (run_dir / "ledger.jsonl").read_bytes()
    assert orca2("preview", file, "--rows", 2, "--into", run_dir)[0] == 0
    assert (run_dir / "ledger.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.engine
def test_a_preview_of_real_models_starts_each_once_and_a_plan_then_knows_their_speed(
    orca2: Call, tmp_path: Path, local_ray: None
) -> None:
    settings = [
        argument
        for override in small(tmp_path / "run", 4, *SHORT)
        for argument in ("--set", override)
    ]
    code, before, err = orca2("plan", CONFIG, *settings)
    assert code == 0, err
    code, out, err = orca2("preview", CONFIG, "--rows", 2, *settings)
    assert code == 0, err
    run_dir = tmp_path / "run-preview"
    assert len(committed_rows(read_ledger(run_dir), "problems", Problem)) == 4
    figures = read_figures(run_dir).values()
    assert {each.stage for each in figures} == {"scores", "rationales"}
    assert all(each.num_starts == 1 for each in stage_costs(read_figures(run_dir)))
    assert all(each.generated_tokens > 0 and each.busy_seconds > 0 for each in figures)
    assert re.search(r"^the whole run: about \d+ rows \(\d+ to \d+\)", out, re.MULTILINE)
    assert verify(run_dir).findings == []
    code, after, err = orca2("plan", CONFIG, *settings)
    assert code == 0, err
    # What was guessed of models of such sizes is now known of these.
    assert run_dir.name in after and run_dir.name not in before
