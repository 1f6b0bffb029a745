from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.config.arguments import Room
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.preflight.context import check_longest_answer, context_lines
from orca2_gen.preflight.model_config import text_config
from orca2_gen.records import Problem
from orca2_gen.strategies import Strategies


def engine(folder: Path, body: dict[str, Any], **values: Any) -> VLLMEngineConfig:
    (folder / "config.json").write_text(json.dumps(body))
    return VLLMEngineConfig(model=str(folder), **values)


@given(max_model_len=st.integers(16, 2000), max_tokens=st.integers(1, 1000))
def test_a_context_is_refused_exactly_if_no_problem_fits_it(
    chatml: Chat, strategies: Strategies, max_model_len: int, max_tokens: int
) -> None:
    room = Room(
        role="student",
        tokenizer="",
        max_model_len=max_model_len,
        max_tokens=max_tokens,
        answer_key="scoring.max_tokens",
    )
    problem = Problem(problem_id="p", task="t", question="", target="", answer_type="open")
    fits = plan_length(problem, strategies, [length_budget(room, chatml, strategies)]) is problem
    try:
        check_longest_answer(room, chatml, strategies)
        assert fits
    except ValueError as error:
        assert not fits
        assert f"scoring.max_tokens is {max_tokens}:" in str(error)
        assert "raise student.max_model_len" in str(error)
        most = re.search(r"lower scoring.max_tokens to at most (\d+),", str(error))
        for length in range(int(most[1]), int(most[1]) + 2) if most else [1]:
            shorter = length_budget(
                dataclasses.replace(room, max_tokens=length), chatml, strategies
            )
            planned = plan_length(problem, strategies, [shorter])
            assert (planned is problem) == (most is not None and length == int(most[1]))


@given(max_model_len=st.integers(16, 2000))
def test_a_context_without_room_for_a_forced_ending_is_refused(
    chatml: Chat, strategies: Strategies, max_model_len: int
) -> None:
    room = Room(
        role="student",
        tokenizer="",
        max_model_len=max_model_len,
        max_tokens=100,
        answer_key="evaluation.max_tokens",
        scored_tokens=100,
        scored_key="evaluation.max_tokens",
        ending_tokens=32,
    )
    budget = length_budget(room, chatml, strategies)
    problems = [
        Problem(problem_id="p", task="t", question="", target="", answer_type=answer_type)
        for answer_type in ANSWER_SENTENCES
    ]
    fits = any(plan_length(problem, strategies, [budget]) is problem for problem in problems)
    try:
        check_longest_answer(room, chatml, strategies)
        assert fits
    except ValueError as error:
        assert not fits
        assert "\n" not in str(error) and "student.max_model_len" in str(error)
        assert str(error).startswith("evaluation.max_tokens is 100: ")
        if "forced ending" in str(error):
            assert 'scoring.ask_again = "none"' in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"max_position_embeddings": 4096},
        {"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 8.0}},
        {"max_position_embeddings": 512, "rope_parameters": {"rope_type": "yarn", "factor": 8.0}},
        {"max_position_embeddings": 512, "text_config": {"max_position_embeddings": 4096}},
        {"max_position_embeddings": 512, "model_max_length": 4096},
        {"max_position_embeddings": None},
        {},
    ],
)
def test_a_context_of_a_model_that_transformers_does_not_know_is_left_to_vllm(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    assert context_lines("student", engine(tmp_path, body, max_model_len=4096))[1] == []


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions", "max_seq_len"])
@pytest.mark.parametrize("kind", [{}, {"model_type": "llama"}])
def test_a_context_beyond_the_models_own_is_refused(
    tmp_path: Path, key: str, kind: dict[str, str]
) -> None:
    body = {key: 512, "rope_scaling": None, "rope_parameters": {"rope_type": "default"}, **kind}
    facts, odd = context_lines("student", engine(tmp_path, body, max_model_len=512))
    assert facts == [f"max_model_len 512; the model reads 512 tokens ({key} 512)"] and not odd
    with pytest.raises(ValueError, match=r"teacher.max_model_len is 513, .* at most 512"):
        context_lines("teacher", engine(tmp_path, body, max_model_len=513))


LLAMA = {"model_type": "llama", "num_attention_heads": 4, "hidden_size": 64}


@pytest.mark.parametrize("kind", [LLAMA, {}], ids=["known to transformers", "unknown"])
@pytest.mark.parametrize(
    ("overrides", "is_fine"),
    [
        ({"max_position_embeddings": 4096}, True),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}}, True),
        ({"rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}}, True),
        ({"max_position_embeddings": 4095}, False),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, False),
        ({}, False),
    ],
)
def test_hf_overrides_count_as_the_models_own_config(
    tmp_path: Path, overrides: dict[str, Any], is_fine: bool, kind: dict[str, Any]
) -> None:
    further = {"hf_overrides": overrides}
    body = {**kind, "max_position_embeddings": 512, "rope_parameters": {"rope_type": "default"}}
    asked = engine(tmp_path, body, max_model_len=4096, engine_arguments=further)
    if is_fine:
        context_lines("student", asked)
        return
    with pytest.raises(ValueError, match=r"student\.max_model_len is 4096"):
        context_lines("student", asked)


def test_ropes_that_do_not_lengthen_the_context_by_themselves_say_what_does(tmp_path: Path) -> None:
    body = {"model_type": "llama", "max_position_embeddings": 512}
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512}
    overrides: dict[str, Any] = {"rope_scaling": yarn}
    further = {"hf_overrides": overrides}
    asked = engine(tmp_path, body, max_model_len=4096, engine_arguments=further)
    key = r"teacher\.engine_arguments\.hf_overrides\.max_position_embeddings$"
    with pytest.raises(ValueError, match=rf"; lower max_model_len, or .*, in {key}"):
        context_lines("teacher", asked)
    overrides["max_position_embeddings"] = 4096
    context_lines("teacher", engine(tmp_path, body, max_model_len=4096, engine_arguments=further))


def test_a_part_of_a_config_is_overridden_in_part(tmp_path: Path) -> None:
    body = {"num_hidden_layers": 4, "text_config": {"num_hidden_layers": 4, "hidden_size": 8}}
    overrides = {"text_config": {"num_hidden_layers": 2}, "num_hidden_layers": 1}
    further = {"hf_overrides": overrides}
    context_lines("student", engine(tmp_path, body, pipeline_parallel_size=4))
    with pytest.raises(ValueError, match="num_hidden_layers 1"):
        context_lines(
            "student", engine(tmp_path, body, pipeline_parallel_size=2, engine_arguments=further)
        )


def test_vllms_own_switch_lets_a_longer_context_through(tmp_path: Path) -> None:
    body = {"max_position_embeddings": 512}
    allowed = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    _, odd = context_lines("student", engine(tmp_path, body, max_model_len=4096, env=allowed))
    assert odd == ["max_model_len is 4096, beyond the model's own"]


def test_a_scaled_context_is_counted_and_told(tmp_path: Path) -> None:
    body = {
        "model_type": "llama",
        "max_position_embeddings": 512,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    }
    facts, _ = context_lines("student", engine(tmp_path, body, max_model_len=2048))
    assert facts == [
        "max_model_len 2048; the model reads 2048 tokens (max_position_embeddings 512, x 4 by rope "
        "scaling)"
    ]
    with pytest.raises(ValueError, match=r"at most 2048 tokens .*; lower max_model_len$"):
        context_lines("student", engine(tmp_path, body, max_model_len=2049))


def test_heads_and_layers_of_a_nested_config_are_asked_too(tmp_path: Path) -> None:
    text = {"num_attention_heads": 6, "num_hidden_layers": 3, "max_position_embeddings": 512}
    body = {"model_type": "gemma3", "text_config": text}
    for key, value in (("tensor_parallel_size", 4), ("pipeline_parallel_size", 4)):
        with pytest.raises(ValueError, match=key):
            context_lines("student", engine(tmp_path, body, max_model_len=64, **{key: value}))


def test_a_config_whose_layers_differ_is_left_to_vllm_where_they_do(tmp_path: Path) -> None:
    body = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "max_position_embeddings": 512,
        "per_layer_config": {"1": {"num_attention_heads": 4, "intermediate_size": 64}},
    }
    context_lines("student", engine(tmp_path, body, max_model_len=512, tensor_parallel_size=3))
    with pytest.raises(ValueError, match="max_model_len is 513"):
        context_lines("student", engine(tmp_path, body, max_model_len=513))


@pytest.mark.parametrize("endless", [math.inf, math.nan])
@pytest.mark.parametrize("key", ["model_max_length", "max_position_embeddings", "factor"])
def test_a_number_without_end_says_nothing(tmp_path: Path, key: str, endless: float) -> None:
    body: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 512}
    body |= {"rope_scaling": {"type": "linear", "factor": endless}} if key == "factor" else {}
    body |= {key: endless} if key != "factor" else {}
    facts, _ = context_lines("student", engine(tmp_path, body, max_model_len=512))
    assert "inf" not in " ".join(facts) and "nan" not in " ".join(facts)


@pytest.mark.parametrize("name", ["num_hidden_layers", "n_layer"])
@pytest.mark.parametrize("number", [10_001, 2**70, math.inf])
def test_a_model_of_countless_layers_is_damaged_and_is_not_built(
    tmp_path: Path, name: str, number: float
) -> None:
    part = {"model_type": "llama", name: number}
    for body in (part, {"model_type": "gemma3", "text_config": part}):
        with pytest.raises(ValueError, match=f"student.model: .* is damaged: {name} is "):
            context_lines("student", engine(tmp_path, body, max_model_len=512))


def test_ropes_that_are_stretched_for_short_texts_too_are_odd(tmp_path: Path) -> None:
    rope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    body = {
        "model_type": "phi3",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 512,
        "rope_scaling": rope,
    }
    assert context_lines("student", engine(tmp_path, body, max_model_len=512))[1] == []
    _, [line] = context_lines("student", engine(tmp_path, body, max_model_len=513))
    assert "max_model_len 513 is beyond 512 (longrope)" in line


KEYS = ("max_position_embeddings", "model_max_length", "n_positions", "seq_length", "max_seq_len")
TYPES = (
    *("llama", "qwen2", "qwen3", "mistral", "mixtral", "phi3", "gpt2", "gemma2", "gemma3_text"),
    *("cohere", "gpt_neox", "deepseek_v3", "falcon", "opt", "mpt", "gemma3"),
)
ROPES = st.fixed_dictionaries(
    {},
    optional={
        "rope_type": st.sampled_from(
            ["default", "linear", "dynamic", "yarn", "llama3", "longrope", "su", "mrope"]
        ),
        "type": st.sampled_from(["linear", "dynamic", "yarn", "su", "longrope"]),
        "factor": st.sampled_from([1.0, 2.0, 4, 2.5, None]),
        "original_max_position_embeddings": st.sampled_from([16, 64]),
        "rope_theta": st.just(10000.0),
    },
)
LAYERS = st.sampled_from(["full_attention", "sliding_attention"])
LENGTHS = st.dictionaries(st.sampled_from(KEYS), st.integers(16, 256), max_size=3)


def bodies() -> st.SearchStrategy[dict[str, Any]]:
    ropes = ROPES | st.none() | st.dictionaries(LAYERS, ROPES, min_size=1)
    more = st.fixed_dictionaries(
        {},
        optional={
            "rope_scaling": ropes,
            "rope_parameters": ropes,
            "sliding_window": st.sampled_from([16, 32, None]),
        },
    )
    return st.builds(
        lambda kind, lengths, rest: (
            {"model_type": kind, "text_config": {**lengths, **rest}}
            if kind == "gemma3"
            else {"model_type": kind, **lengths, **rest}
        ),
        st.sampled_from(TYPES),
        LENGTHS,
        more,
    )


def is_accepted_by_vllm(folder: Path, max_model_len: int) -> bool | None:
    """Whether vLLM's own check accepts the length; None if it accepts no length at all."""
    from vllm.config.model import _get_and_verify_max_len
    from vllm.transformers_utils.config import get_config, get_hf_text_config
    from vllm.transformers_utils.model_arch_config_convertor import (
        MODEL_ARCH_CONFIG_CONVERTORS,
        ModelArchConfigConvertorBase,
    )

    try:
        whole = get_config(str(folder), trust_remote_code=False, config_format="hf")
        text = get_hf_text_config(whole)
    except Exception:
        return None
    convertor = MODEL_ARCH_CONFIG_CONVERTORS.get(whole.model_type, ModelArchConfigConvertorBase)
    derived = convertor(whole, text).derive_max_model_len_and_key()
    arch: Any = SimpleNamespace(derived_max_model_len_and_key=derived)
    try:
        _get_and_verify_max_len(text, arch, None, max_model_len, False, None)
    except ValueError:
        return False
    except KeyError:  # a rope without a type, which vLLM reads nothing of
        return None
    return True


@given(body=bodies(), max_model_len=st.integers(16, 1200))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_context_is_refused_exactly_if_vllm_refuses_it(
    tmp_path_factory: pytest.TempPathFactory, body: dict[str, Any], max_model_len: int
) -> None:
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("model")
    asked = engine(folder, body, max_model_len=max_model_len)
    assume(text_config(folder) is not None)  # vLLM would try again for seconds
    accepted = is_accepted_by_vllm(folder, max_model_len)
    try:
        context_lines("student", asked)
        assert accepted is not False
    except ValueError as error:
        assert "max_model_len" in str(error) and not accepted
