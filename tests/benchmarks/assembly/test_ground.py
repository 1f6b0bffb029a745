"""What the assemblies ask is what our own path asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.assembly.ground import BLOCK_SIZE, MICROWORLD, SAMPLES, pair_config
from orca2_gen.calls import Budget
from orca2_gen.config.schema import SelectionConfig
from orca2_gen.engine import Request
from orca2_gen.rationales import teach
from orca2_gen.records import Completion
from orca2_gen.scoring import score
from ray_jobs.dispatch.leases import asking_of
from tests.benchmarks.assembly.grounds import ground_of, problem
from tests.conftest import Write


class Asking:
    """An engine that never answers right, and remembers what it was asked."""

    is_dead, num_generated_tokens = False, 0

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        self.asked.append(request)
        return request.completion(
            text="Answer: -1", finish_reason="stop", num_cached_tokens=0, num_completion_tokens=3
        )

    def close(self) -> None:
        pass


def test_a_cell_is_asked_as_our_scoring_asks_it() -> None:
    ground, engine = ground_of(1, 1), Asking()
    max_tokens = ground.config.scoring.max_tokens
    budget = Budget(max_tokens=max_tokens, max_model_len=512, retry_max_tokens=max_tokens)
    asked = problem("add", 7)
    asyncio.run(
        score(
            asked,
            "step_by_step",
            role="student",
            engine=engine,
            chat=ground.chat("student"),
            strategies=ground.strategies,
            budget=budget,
        )
    )
    prompt = ground.asked(asked, "student", "step_by_step")
    assert engine.asked == [prompt.request(ground.chat("student"))]
    assert prompt.seed == engine.asked[0].seed


def test_attempts_are_asked_as_our_teaching_asks_them() -> None:
    ground, engine = ground_of(1, 1), Asking()
    config = ground.config
    asking = asking_of(config.rationales, config.teacher, config.run_seed)
    asked = problem("add", 7)
    asyncio.run(
        teach(
            asked,
            "step_by_step",
            engine=engine,
            chat=ground.chat("teacher"),
            strategies=ground.strategies,
            asking=asking,
        )
    )
    prompts = [
        ground.asked(asked, "teacher", "step_by_step", attempt, asking.sampling(attempt))
        for attempt in range(SAMPLES)
    ]
    assert engine.asked == [prompt.request(ground.chat("teacher")) for prompt in prompts]
    assert [prompt.seed for prompt in prompts] == [request.seed for request in engine.asked]


def test_every_request_is_asked_once_by_one_engine_of_each_model() -> None:
    config = pair_config(MICROWORLD, Path("runs/none"), [])
    assert config.scoring.most_tokens == config.scoring.max_tokens
    assert config.scoring.ending_tokens is None
    assert (config.student.replicas, config.teacher.replicas) == (1, 1)
    assert config.selection.method == "race"
    assert config.rationales.max_attempts == SAMPLES
    assert SelectionConfig().block_size == BLOCK_SIZE


def test_the_tiny_size_has_few_problems_of_the_same_tasks() -> None:
    whole, tiny = (
        pair_config(MICROWORLD, Path("runs/none"), [], is_tiny=each) for each in (False, True)
    )
    assert [task.name for task in tiny.tasks] == [task.name for task in whole.tasks]
    assert all(task.rows_per_task for task in tiny.tasks)
    assert tiny.selection.scored_problems < whole.selection.scored_problems


def test_an_engine_that_ray_data_llm_cannot_run_is_refused_in_one_line(
    write_config: Write, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"student is no vLLM engine.*") as refused:
        pair_config(write_config(), tmp_path / "run", [])
    assert "\n" not in str(refused.value)
