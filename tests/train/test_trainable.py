"""The probe of training against training itself, on models of many kinds and on damaged ones."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.preflight.model_directories import INDEX, TINY, llama, write_model
from tests.train.test_model import DAMAGES, edited
from train.architecture import layers_of
from train.model import load_sharded
from train.model_directory import check_examples_fit, model_config
from train.trainable import TrainingQuestion, trainable_lines

SIZES: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
    **{"max_position_embeddings": 128, "n_embd": 32, "n_layer": 2, "n_head": 2},
    **{"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2},
    **{"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_chunk_size": 8},
    **{"moe_intermediate_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
KINDS = (
    *("llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma", "gemma3_text", "cohere", "granite"),
    *("phi", "phi3", "gpt2", "gpt_neox", "olmo2", "qwen3_moe", "mamba", "falcon", "gpt_oss"),
    *("starcoder2", "falcon_h1", "qwen3_next", "bloom", "opt", "biogpt", "lfm2"),
)


def question(model_dir: Path, **values: Any) -> TrainingQuestion:
    asked: dict[str, Any] = {
        "key": "student.model",
        "model_dir": model_dir,
        "seq_len": 64,
        "longest": 64,
        "optimizer": "adamw",
        "gradient_checkpointing": False,
    }
    return TrainingQuestion(**(asked | values))


def refused(model_dir: Path, **values: Any) -> str:
    with pytest.raises(ValueError) as error:
        trainable_lines(question(model_dir, **values))
    line = str(error.value)
    assert line.startswith("student.model: ") and str(model_dir) in line and "\n" not in line
    return line


def small(kind: str, folder: Path, **values: Any) -> Path:
    """A small random model of a kind, with its weights."""
    cls = CONFIG_MAPPING[kind]
    keys = {*inspect.signature(cls.__init__).parameters, *getattr(cls, "__dataclass_fields__", ())}
    sizes = {key: value for key, value in SIZES.items() if key in keys}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(cls(**(sizes | values))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_model_is_refused_exactly_if_training_refuses_it(
    tmp_path: Path, kind: str
) -> None:
    model_dir = small(kind, tmp_path)
    try:
        check_examples_fit(model_dir, longest=0, largest_id=0)
        load_sharded(model_dir, dtype=torch.float32, gradient_checkpointing=True)
    except ValueError:
        refused(model_dir, gradient_checkpointing=True)
    else:
        trainable_lines(question(model_dir, gradient_checkpointing=True))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("gemma2", {}),
        ("cohere", {"logit_scale": 0.0625}),
        ("granite", {"logits_scaling": 8.0}),
        ("falcon_h1", {"lm_head_multiplier": 0.5}),
    ],
)
def test_logits_that_are_scaled_or_capped_are_no_hindrance(
    tmp_path: Path, kind: str, values: dict[str, Any]
) -> None:
    facts, _ = trainable_lines(question(small(kind, tmp_path, **values)))
    assert "can be trained" in facts[0]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "NaN" not in name])
def test_a_damage_that_training_refuses_is_refused_by_the_probe(
    tmp_path: Path, model_dir: Path, damage: str
) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    DAMAGES[damage][0](tmp_path / "model")
    refused(tmp_path / "model")


def test_a_model_of_any_size_is_asked_without_a_weight(tmp_path: Path) -> None:
    config, shapes = llama(hidden=4096, inner=11008, layers=32, heads=32, kv_heads=32)
    facts, odd = trainable_lines(question(write_model(tmp_path, config, shapes, 2, "F16")))
    assert "6.74 billion parameters, 107.81 GB for weights" in facts[0] and not odd


def test_names_of_weights_that_training_does_not_look_for_are_refused(tmp_path: Path) -> None:
    model_dir = write_model(tmp_path, *llama(**TINY), 2)
    trainable_lines(question(model_dir))
    (model_dir / INDEX).unlink()
    assert "has neither model.safetensors nor model.safetensors.index.json" in refused(model_dir)


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    model_dir = write_model(tmp_path, *llama(**TINY), 1)
    edited(model_dir, quantization_config={"quant_method": "fp8"})
    assert "its weights are quantized" in refused(model_dir)
    edited(model_dir, quantization_config=None)
    trainable_lines(question(model_dir))


def test_examples_that_may_be_too_long_are_told(tmp_path: Path) -> None:
    model_dir = small("llama", tmp_path)
    facts, odd = trainable_lines(question(model_dir, longest=65))
    assert "training refuses those longer than training.seq_len, 64" in facts[1] and not odd
    _, odd = trainable_lines(question(model_dir, longest=129, seq_len=256))
    assert "longer than the model's 128 positions" in odd[0]


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "llama"])
def test_layers_under_any_name_are_shared_among_processes(tmp_path: Path, kind: str) -> None:
    model_dir = small(kind, tmp_path)
    facts, _ = trainable_lines(question(model_dir, num_ranks=2))
    assert "can be trained" in facts[0]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config(model_dir))
    assert len(layers_of(model)) == 2


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"]}),
        ("falcon_h1", {}),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("opt", {}),
        ("falcon", {}),
    ],
)
def test_packed_examples_that_would_see_each_other_are_odd_before_anything_is_generated(
    tmp_path: Path, kind: str, values: dict[str, Any]
) -> None:
    _, odd = trainable_lines(question(small(kind, tmp_path, **values)))
    assert any("packed examples see each other" in line for line in odd)


def test_what_lora_trains_and_takes_is_told_before_anything_is_generated(
    tmp_path: Path, model_dir: Path
) -> None:
    [whole, *_], _ = trainable_lines(question(model_dir))
    [lora, *_], odd = trainable_lines(question(model_dir, lora_rank=2))
    assert "LoRA" not in whole and not odd
    assert re.search(r"parameters and [0-9.]+ million beside them that LoRA trains in", lora)
    sizes = re.findall(r", ([0-9.]+) MB for weights", whole + lora)
    assert float(sizes[1]) < float(sizes[0]) / 2
    _, odd = trainable_lines(question(small("mixtral", tmp_path), lora_rank=2))
    assert "experts that lie in one tensor stay as they are, and LoRA trains the rest" in odd


@pytest.mark.parametrize(("row_tokens", "layout"), [(8192, "packed"), (8193, "apart")])
def test_chunks_matter_only_in_rows_that_are_longer(
    tmp_path: Path, row_tokens: int, layout: str
) -> None:
    model_dir = small("llama4_text", tmp_path, attention_chunk_size=8192)
    loaded = load_sharded(model_dir, dtype=torch.float32, row_tokens=row_tokens)
    assert loaded.isolation.layout == layout


def test_examples_beyond_the_first_length_of_a_longrope_model_get_a_pass_each(
    tmp_path: Path,
) -> None:
    factors = {"long_factor": [4.0] * 8, "short_factor": [1.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, **factors}
    lengths = {"original_max_position_embeddings": 64}
    model_dir = small("phi3", tmp_path, rope_parameters=rope | lengths, **lengths)
    layouts = [
        load_sharded(model_dir, dtype=torch.float32, longest=longest).isolation.layout
        for longest in (64, 65)
    ]
    assert layouts == ["packed", "alone"]


def test_a_model_of_countless_layers_is_not_built(tmp_path: Path) -> None:
    model_dir = small("llama", tmp_path)
    edited(model_dir, num_hidden_layers=2**70)
    assert "num_hidden_layers is 1.18059e+21" in refused(model_dir)
