from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.preflight.context import context_lines
from orca2_gen.preflight.engine_arguments import argument_lines

STUDENT = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "student"
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "hidden_size": 64,
    "max_position_embeddings": 512,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


def engine(folder: Path, body: dict[str, Any], **arguments: Any) -> VLLMEngineConfig:
    (folder / "config.json").write_text(json.dumps(body))
    return VLLMEngineConfig(model=str(folder), engine_arguments=arguments)


def refusal(asked: VLLMEngineConfig) -> str:
    with pytest.raises(ValueError) as found:
        argument_lines("teacher", asked)
    return str(found.value)


@pytest.mark.parametrize("place", ["rope_theta", "rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", [LLAMA, {}], ids=["known to transformers", "unknown"])
def test_ropes_that_would_lose_the_models_theta_are_refused(
    tmp_path: Path, place: str, name: str, kind: dict[str, Any]
) -> None:
    """vLLM would take 10000, and every answer would be spoilt without an error."""
    theta = 5e5 if place == "rope_theta" else {"rope_theta": 5e5, "rope_type": "default"}
    body = {**kind, place: theta}
    found = refusal(engine(tmp_path, body, hf_overrides={name: YARN}))
    assert found.startswith(f"teacher.engine_arguments.hf_overrides.{name} takes the place of all")
    assert found.endswith("has no rope_theta; add it (500000)")
    whole = {**YARN, "rope_theta": 5e5}
    argument_lines("teacher", engine(tmp_path, body, hf_overrides={name: whole}))
    untyped = {key: value for key, value in whole.items() if key != "rope_type"}
    assert "no rope_type" in refusal(engine(tmp_path, body, hf_overrides={name: untyped}))
    by_layer = {"full_attention": whole, "sliding_attention": YARN}
    assert "no rope_theta" in refusal(engine(tmp_path, body, hf_overrides={name: by_layer}))


def test_the_ropes_of_the_documentation_are_enough_for_its_context(tmp_path: Path) -> None:
    body = {**LLAMA, "rope_theta": 5e5}
    ropes = {"rope_parameters": {**YARN, "rope_theta": 5e5}, "max_position_embeddings": 2048}
    asked = engine(tmp_path, body, hf_overrides=ropes).model_copy(update={"max_model_len": 2048})
    argument_lines("teacher", asked)
    facts, odd = context_lines("teacher", asked)
    assert any("2048" in fact for fact in facts) and not odd


@pytest.mark.parametrize("key", ["num_experts", "n_routed_experts", "num_local_experts"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_experts_are_spread_only_where_there_are_some(
    tmp_path: Path, key: str, is_nested: bool
) -> None:
    experts = {"text_config": {key: 8}} if is_nested else {key: 8}
    argument_lines("teacher", engine(tmp_path, LLAMA | experts, enable_expert_parallel=True))
    argument_lines("teacher", engine(tmp_path, LLAMA, enable_expert_parallel=False))
    found = refusal(engine(tmp_path, LLAMA | {key: 0}, enable_expert_parallel=True))
    assert found == (
        f"teacher.engine_arguments.enable_expert_parallel is true, and {tmp_path / 'config.json'} "
        "names no experts; remove it"
    )


@pytest.mark.parametrize(
    ("table", "is_fine"),
    [
        ({"method": "ngram", "num_speculative_tokens": 4}, True),
        ({"model": "ngram", "num_speculative_tokens": 4}, True),
        ({"method": "mtp"}, True),  # the draft says how many
        ({"method": "suffix"}, True),
        ({"method": "ngram"}, False),
        ({"model": "[ngram]"}, False),
        ({"method": "ngram", "num_speculative_tokens": 0}, False),
        ({"method": "mtp", "num_speculative_tokens": True}, False),
        ({"method": "mtp", "num_speculative_tokens": "4"}, False),
    ],
)
def test_a_number_of_speculative_tokens_is_asked_for_where_vllm_needs_one(
    tmp_path: Path, table: dict[str, Any], is_fine: bool
) -> None:
    asked = engine(tmp_path, LLAMA, speculative_config=table)
    if is_fine:
        argument_lines("teacher", asked)
    else:
        key = "teacher.engine_arguments.speculative_config.num_speculative_tokens is "
        assert refusal(asked).startswith(key)


def test_a_draft_is_a_whole_model_with_the_vocabulary_of_its_own(tmp_path: Path) -> None:
    draft = Path(shutil.copytree(STUDENT, tmp_path / "draft"))
    (tmp_path / "model").mkdir()
    table = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 2}
    same = VLLMEngineConfig(model=str(STUDENT), engine_arguments={"speculative_config": table})
    argument_lines("teacher", same)
    other = engine(tmp_path / "model", LLAMA | {"vocab_size": 99}, speculative_config=table)
    assert "one of 99; a draft must have that of its model" in refusal(other)
    key = "teacher.engine_arguments.speculative_config.model: "
    weights = draft / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[:-5], whole[:50], b"", None):
        weights.unlink()
        if broken is not None:
            weights.write_bytes(broken)
        assert refusal(same).startswith(key) and str(draft) in refusal(same)
        weights.write_bytes(whole)
    (draft / "config.json").unlink()
    assert refusal(same).startswith(key)


@pytest.mark.parametrize("method", [{}, {"method": "draft_model"}], ids=["found", "named"])
def test_a_directory_alone_is_a_draft_model_unless_its_files_say_otherwise(
    tmp_path: Path, method: dict[str, Any]
) -> None:
    draft, target = (Path(shutil.copytree(STUDENT, tmp_path / name)) for name in ("d", "model"))
    table: dict[str, Any] = {**method, "model": str(draft), "num_speculative_tokens": 2}
    body = json.loads((target / "config.json").read_text())
    argument_lines("teacher", engine(target, body, speculative_config=table))
    uncounted = {name: value for name, value in table.items() if name != "num_speculative_tokens"}
    found = refusal(engine(target, body, speculative_config=uncounted))
    assert "num_speculative_tokens is not set" in found
    other = engine(target, body | {"vocab_size": 99}, speculative_config=table)
    assert "a draft must have that of its model" in refusal(other)
    mapped = {**table, "use_heterogeneous_vocab": True}
    argument_lines("teacher", engine(target, body | {"vocab_size": 99}, speculative_config=mapped))
    own = json.loads((draft / "config.json").read_text())
    for said in ({"model_type": "medusa"}, {"architectures": ["Eagle3Llama"]}, {"n_predict": 3}):
        (draft / "config.json").write_text(json.dumps(own | said))
        unlike = engine(target, body | {"vocab_size": 99}, speculative_config=uncounted)
        argument_lines("teacher", unlike)


def test_speculation_that_writes_other_answers_than_the_model_is_refused(tmp_path: Path) -> None:
    table = {"method": "ngram", "num_speculative_tokens": 2}
    for sound in ("standard", "block"):
        asked = engine(
            tmp_path, LLAMA, speculative_config={**table, "rejection_sample_method": sound}
        )
        argument_lines("teacher", asked)
    table |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.0}
    assert "writes other answers than the model; remove it" in refusal(
        engine(tmp_path, LLAMA, speculative_config=table)
    )


def test_a_line_says_which_arguments_are_in_the_stage_keys(tmp_path: Path) -> None:
    table = {"method": "ngram", "num_speculative_tokens": 2}
    asked = engine(tmp_path, LLAMA, async_scheduling=True, speculative_config=table)
    line = "engine_arguments async_scheduling, speculative_config; in stage keys: "
    assert argument_lines("teacher", asked) == ([f"{line}speculative_config"], [])
    asked = engine(tmp_path, LLAMA, data_parallel_size=2)
    assert argument_lines("teacher", asked)[0] == [
        "engine_arguments data_parallel_size; in stage keys: none"
    ]
    assert argument_lines("teacher", engine(tmp_path, LLAMA)) == ([], [])


@pytest.mark.parametrize(
    ("load_format", "file"),
    [
        ("mistral", "consolidated-00001-of-00002.safetensors"),
        ("sharded_state", "model-rank-0-part-0.safetensors"),
        ("runai_streamer_sharded", "model-pp-0-tp-1-part-0.safetensors"),
    ],
)
def test_a_load_format_finds_the_files_that_it_reads(
    tmp_path: Path, load_format: str, file: str
) -> None:
    (tmp_path / "model.safetensors").touch()
    asked = engine(tmp_path, LLAMA, load_format=load_format)
    assert refusal(asked).endswith(f"and {tmp_path} holds none; remove the key")
    (tmp_path / file).touch()
    argument_lines("teacher", asked)
    (tmp_path / file).unlink()
    extra = {"pattern": "part-{rank}-{part}.safetensors"}
    argument_lines(
        "teacher",
        engine(tmp_path, LLAMA, load_format=load_format, model_loader_extra_config=extra),
    )
