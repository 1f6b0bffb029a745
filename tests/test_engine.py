from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib.util
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.engine import Request, engine_arguments
from orca2_gen.scripted_engine import ScriptedEngine

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


def test_what_vllm_is_given_is_safe_and_holds_every_key_of_ours() -> None:
    config = VLLMEngineConfig(model="/models/student", tensor_parallel_size=2)
    arguments = engine_arguments(config, "mp")
    assert arguments["trust_remote_code"] is False
    assert arguments["load_format"] == "safetensors"
    assert arguments["enable_log_requests"] is False
    assert arguments["distributed_executor_backend"] == "mp"
    kept = {"engine", "replicas", "env", "env_allowed"}
    assert set(VLLMEngineConfig.model_fields) - set(arguments) == kept


def test_every_argument_that_vllm_is_given_is_one_of_its_own() -> None:
    found = importlib.util.find_spec("vllm")  # to import vLLM takes long
    assert found is not None and found.origin is not None
    source = Path(found.origin).with_name("engine") / "arg_utils.py"
    known = {
        line.target.id
        for each in ast.parse(source.read_text()).body
        if isinstance(each, ast.ClassDef) and each.name in ("EngineArgs", "AsyncEngineArgs")
        for line in each.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    arguments = engine_arguments(VLLMEngineConfig(model="/models/student"), "mp")
    assert arguments.keys() <= known


def test_no_log_probability_is_asked_for_so_none_can_be_nan() -> None:
    root = Path(__file__).parents[1]
    for path in (
        path for name in ("orca2_gen", "ray_jobs") for path in (root / name).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (getattr(node, field, None) for field in ("id", "attr", "arg"))
            assert not any("logprob" in name for name in names if isinstance(name, str)), path
