from __future__ import annotations

import asyncio
import dataclasses
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.engine import Request, ScriptedEngine, engine_arguments, planted_script
from orca2_gen.engine_schema import VLLMEngineConfig
from orca2_gen.grading import grade
from orca2_gen.records import AnswerType, Problem

REQUEST = Request(
    problem_id="t/train/0",
    role="student",
    strategy="step_by_step",
    call=0,
    attempt=0,
    prompt_token_ids=(1, 2),
    max_tokens=50,
)


@given(field=st.sampled_from(["problem_id", "role", "strategy", "call", "attempt", "run_seed"]))
def test_the_seed_is_a_function_of_identity_and_run_seed(field: str) -> None:
    value = getattr(REQUEST, field)
    other = dataclasses.replace(
        REQUEST, **{field: value + 1 if isinstance(value, int) else value + "x"}
    )
    assert other.seed != REQUEST.seed
    same = dataclasses.replace(REQUEST, prompt_token_ids=(3,), max_tokens=9, temperature=0.5)
    assert same.seed == REQUEST.seed
    assert 0 <= REQUEST.seed < 2**31


def test_the_scripted_engine_cuts_at_max_tokens_and_says_so(chatml: Chat) -> None:
    engine = ScriptedEngine(chatml, lambda request: "a b c d e f g h i j k l m n o p")
    cut = asyncio.run(engine.generate(dataclasses.replace(REQUEST, max_tokens=5)))
    assert (cut.finish_reason, cut.num_completion_tokens) == ("length", 5)
    whole = asyncio.run(engine.generate(REQUEST))
    assert whole.finish_reason == "stop" and whole.text.startswith(cut.text)


def test_planted_accuracies_come_out_and_are_paired_over_strategies() -> None:
    problems = {
        f"t/train/{n}": Problem(
            problem_id=f"t/train/{n}", task="t", question="?", target=str(n), answer_type="numeric"
        )
        for n in range(1000)
    }
    script = planted_script(problems, {"direct_answer": 0.2, "step_by_step": 0.7}, run_seed=3)

    def solved(strategy: str) -> set[str]:
        requests = (
            dataclasses.replace(REQUEST, problem_id=key, strategy=strategy) for key in problems
        )
        return {
            r.problem_id
            for r in requests
            if grade(problems[r.problem_id], script(r), "stop").outcome == "correct"
        }

    direct, steps = solved("direct_answer"), solved("step_by_step")
    assert 150 < len(direct) < 250 and 650 < len(steps) < 750
    assert direct <= steps
    assert solved("direct_answer") == direct


TARGETS: dict[AnswerType, str] = {
    "exact": "Tofis",
    "numeric": "12",
    "multiple_choice": "A",
    "yes_no": "No",
    "list": "red\ngreen",
    "span": "Denver Broncos\nCarolina Panthers",
    "mathematics": "\\frac{1}{2}",
    "summary": "A storm came over the town and two bridges fell.",
}


@pytest.mark.parametrize("answer_type", get_args(AnswerType))
def test_a_planted_answer_of_every_type_is_graded_as_it_was_planted(
    answer_type: AnswerType,
) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="?",
        target=TARGETS[answer_type],
        answer_type=answer_type,
        choices=("dog", "cat") if answer_type == "multiple_choice" else (),
    )
    for accuracy, outcome in ((1.0, "correct"), (0.0, "incorrect")):
        script = planted_script({problem.problem_id: problem}, {"step_by_step": accuracy}, 0)
        assert grade(problem, script(REQUEST), "stop").outcome == outcome


def test_what_vllm_is_given_is_safe_and_holds_every_key_of_ours() -> None:
    config = VLLMEngineConfig(model="/models/student", tensor_parallel_size=2)
    arguments = engine_arguments(config, "mp")
    assert arguments["trust_remote_code"] is False
    assert arguments["load_format"] == "safetensors"
    assert arguments["enable_log_requests"] is False
    assert arguments["distributed_executor_backend"] == "mp"
    assert set(VLLMEngineConfig.model_fields) - set(arguments) == {"engine", "replicas", "env"}
