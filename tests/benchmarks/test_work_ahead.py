from __future__ import annotations

import sys
from pathlib import Path

import pytest
import ray

from benchmarks import work_ahead
from benchmarks.selection import replayed_engine
from benchmarks.work_ahead import GRID_METHOD, NEVER, WAYS, Scored, scored
from orca2_gen.config.engine import ScriptedEngineConfig
from orca2_gen.config.load import load_config
from ray_jobs.demo import CONFIG
from ray_jobs.pipeline import read_tasks, score_student
from ray_jobs.run import open_run
from tests.conftest import quiet


@pytest.fixture
def grid(tmp_path: Path, local_ray: None) -> Path:
    """A stored grid whose student is scripted."""
    run_dir = tmp_path / "grid" / "run"
    every = ["selection.method=full_grid", "selection.scored_problems=1000000"]
    config = load_config(CONFIG, [f"run_dir={run_dir}", *every])
    student = ScriptedEngineConfig(
        engine="scripted",
        tokenizer=config.student.model,  # type: ignore[union-attr]
        max_model_len=config.student.max_model_len,
        accuracy={"direct_answer": 0.1, "step_by_step": 0.9},
    )
    update = {"tasks": config.tasks[:1], "student": student, "decontaminate": None}
    with open_run(config.model_copy(update=update), quiet) as run:
        read_tasks(run)
        score_student(run)
    return run_dir


@pytest.mark.slow
def test_work_ahead_selects_the_same_and_costs_no_more_than_it_may(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[replayed_engine.__name__])
    monkeypatch.setattr(work_ahead, "TOKEN_SECONDS", 0.01)
    found: dict[str, Scored] = {
        way: scored(tmp_path / str(place) / "run", grid, way, 1, 2, 16)
        for place, way in enumerate(WAYS)
    }
    never, few, fast = found[NEVER], found["fewest_tokens"], found["shortest_time"]
    assert never.selected == few.selected == fast.selected != {}
    # What is dropped depends on when answers come, so the two ways have no order of their own.
    assert never.tokens <= min(few.tokens, fast.tokens)
    assert max(few.tokens, fast.tokens) <= found[GRID_METHOD].tokens * 1.01
