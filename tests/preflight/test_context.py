from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.config.arguments import Room
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.preflight.context import check_longest_answer, check_model_file
from orca2_gen.records import Problem
from orca2_gen.strategies import Strategies


def engine(folder: Path, body: dict[str, Any], **values: Any) -> VLLMEngineConfig:
    (folder / "config.json").write_text(json.dumps(body))
    return VLLMEngineConfig(model=str(folder), **values)


@given(max_model_len=st.integers(16, 2000), max_tokens=st.integers(1, 1000))
def test_a_context_is_refused_exactly_if_no_problem_fits_it(
    chatml: Chat, strategies: Strategies, max_model_len: int, max_tokens: int
) -> None:
    room = Room(role="student", tokenizer="", max_model_len=max_model_len, max_tokens=max_tokens)
    problem = Problem(problem_id="p", task="t", question="", target="", answer_type="open")
    fits = plan_length(problem, strategies, [length_budget(room, chatml, strategies)]) is problem
    try:
        check_longest_answer("student", room, chatml, strategies, "scoring.max_tokens")
        assert fits
    except ValueError as error:
        assert not fits
        assert "scoring.max_tokens" in str(error) and "student.max_model_len" in str(error)


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
def test_a_context_that_vllm_may_accept_is_left_to_it(tmp_path: Path, body: dict[str, Any]) -> None:
    check_model_file("student", engine(tmp_path, body, max_model_len=4096))


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions", "max_seq_len"])
def test_a_context_beyond_the_models_own_is_refused(tmp_path: Path, key: str) -> None:
    body = {key: 512, "rope_scaling": None, "rope_parameters": {"rope_type": "default"}}
    check_model_file("student", engine(tmp_path, body, max_model_len=512))
    with pytest.raises(ValueError, match=r"teacher.max_model_len is 513, .* at most 512"):
        check_model_file("teacher", engine(tmp_path, body, max_model_len=513))


@pytest.mark.parametrize(
    ("overrides", "is_fine"),
    [
        ({"max_position_embeddings": 4096}, True),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, True),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 8.0}}, True),
        ({"max_position_embeddings": 4095}, False),
        ({"rope_parameters": {"rope_type": "default"}}, False),
        ({}, False),
    ],
)
def test_hf_overrides_count_as_the_models_own_config(
    tmp_path: Path, overrides: dict[str, Any], is_fine: bool
) -> None:
    further = {"hf_overrides": overrides}
    body = {"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default"}}
    asked = engine(tmp_path, body, max_model_len=4096, engine_arguments=further)
    if is_fine:
        check_model_file("student", asked)
        return
    with pytest.raises(ValueError, match=r"student\.max_model_len is 4096"):
        check_model_file("student", asked)


def test_a_part_of_a_config_is_overridden_in_part(tmp_path: Path) -> None:
    body = {"num_hidden_layers": 4, "text_config": {"num_hidden_layers": 4, "hidden_size": 8}}
    overrides = {"text_config": {"num_hidden_layers": 2}, "num_hidden_layers": 1}
    further = {"hf_overrides": overrides}
    check_model_file("student", engine(tmp_path, body, pipeline_parallel_size=4))
    with pytest.raises(ValueError, match="num_hidden_layers 1"):
        check_model_file(
            "student", engine(tmp_path, body, pipeline_parallel_size=2, engine_arguments=further)
        )


def test_vllms_own_switch_lets_a_longer_context_through(tmp_path: Path) -> None:
    body = {"max_position_embeddings": 512}
    allowed = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    check_model_file("student", engine(tmp_path, body, max_model_len=4096, env=allowed))
