from __future__ import annotations

import ast
import asyncio
import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.vllm_fields import installed_fields
from orca2_gen.engine import OWN_KEYS, Request, engine_arguments
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
    kept = OWN_KEYS | {"engine_arguments"}
    left_to_vllm = {name for name, value in config if value is None} - kept
    assert left_to_vllm == {"block_size", "kv_cache_memory_bytes", "quantization"}
    assert set(VLLMEngineConfig.model_fields) - set(arguments) == kept | left_to_vllm
    values = {"block_size": 64, "kv_cache_memory_bytes": 1 << 30, "quantization": "fp8"}
    assert engine_arguments(config.model_copy(update=values), "mp") == arguments | values


def test_every_argument_that_vllm_is_given_is_one_of_its_own() -> None:
    fields = installed_fields()
    assert fields is not None
    arguments = engine_arguments(VLLMEngineConfig(model="/models/student"), "mp")
    assert arguments.keys() <= fields.arguments.keys()


def test_further_arguments_reach_vllm_and_take_the_place_of_none_of_ours() -> None:
    further = {"speculative_config": {"method": "ngram"}, "load_format": "fastsafetensors"}
    config = VLLMEngineConfig(model="/models/student", engine_arguments=further)
    without = engine_arguments(VLLMEngineConfig(model="/models/student"), None)
    assert engine_arguments(config, None) == without | further
    forced = config.model_copy(
        update={"engine_arguments": {name: "other" for name in without if name != "load_format"}}
    )
    assert engine_arguments(forced, None) == without


def test_no_log_probability_is_asked_for_so_none_can_be_nan() -> None:
    root = Path(__file__).parents[1]
    for path in (
        path for name in ("orca2_gen", "ray_jobs") for path in (root / name).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (getattr(node, field, None) for field in ("id", "attr", "arg"))
            assert not any("logprob" in name for name in names if isinstance(name, str)), path
