"""What one rank reads in the format of the files is what a model in float32 has."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.train.test_families import VALUES
from train import reading
from train.architecture import attention_of, without_noise
from train.model_directory import described_model, model_config, stored_dtype, whole_model
from train.probes import Found, found_in, probed, small_copy
from train.reading import Reading, read_to_share
from train.tiny_copy import layers_of_every_kind, tiny_copy
from train.weights import buffers_of, strays

DEPTH = 16
"""Layers of the models here: more than two periods of most kinds."""
PARTS = 8
"""Parts in which the families are tried, each within the time of a test."""


def deep_model(kind: str, depth: int = DEPTH) -> Any:
    """A tiny model of a kind's usual config with many layers; raises whatever its code raises."""
    config = CONFIG_MAPPING[kind](**VALUES.get(kind, {}))
    return tiny_copy(config, depth, attention_of(config))


def written(folder: Path, kind: str, dtype: torch.dtype) -> Path:
    """The directory of a deep model of a kind, in a format of half the size."""
    deep_model(kind).to(dtype).save_pretrained(folder)
    return folder


def read(model_dir: Path) -> tuple[Reading, Any]:
    """What is read to be shared, and the model read in float32."""
    config, attention = asked(model_dir)
    shell = described_model(config, attention)
    plain = whole_model(model_dir, config, attention, torch.float32)
    return read_to_share(model_dir, config, attention, shell, longest=0, row_tokens=None), plain


def asked(model_dir: Path) -> tuple[Any, str]:
    """The config and the attention with which a directory is read."""
    config = model_config(model_dir)
    without_noise(config)
    return config, attention_of(config)


def assert_the_same(found: Reading, plain: Any, expected_found: Found | None = None) -> None:
    """Checks weights and buffers bit by bit, and what the probes say: as of the whole model."""
    expected = {name: each.detach() for name, each in plain.named_parameters()}
    assert found.weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found.weights[name].float(), tensor), name
    buffers = buffers_of(plain)
    assert found.buffers.keys() == buffers.keys()
    for name, tensor in buffers.items():
        assert found.buffers[name].dtype == tensor.dtype, name
        assert torch.equal(found.buffers[name], tensor), name
    assert found.found == (expected_found or found_in_whole(plain))


def found_in_whole(plain: Any) -> Found:
    """What the probes of a whole model say."""
    small = small_copy(plain, plain.config, plain.config._attn_implementation, None)
    return found_in(probed(plain), small)


def is_lean(found: Reading) -> bool:
    """Whether the weights are those of the files, in their format."""
    return {each.dtype for each in found.weights.values()} == {torch.bfloat16}


KNOWN = ("llama", "qwen3", "gemma2", "gemma3_text", "mixtral", "phi3", "olmo2", "gpt2", "falcon")


@pytest.mark.parametrize("kind", KNOWN)
def test_a_model_of_half_the_size_is_read_as_in_float32(kind: str, tmp_path: Path) -> None:
    found, plain = read(written(tmp_path / "model", kind, torch.bfloat16))
    assert_the_same(found, plain)
    assert is_lean(found)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_family_of_half_the_size_is_read_as_in_float32(tmp_path: Path, part: int) -> None:
    lean, whole = [], []
    kinds = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)[part::PARTS]
    for kind in kinds:
        try:
            model_dir = written(tmp_path / kind, kind, torch.bfloat16)
            config, attention = asked(model_dir)
            shell = described_model(config, attention)
            if strays(shell):
                continue  # every rank reads it, in float32
            expected = found_in_whole(whole_model(model_dir, config, attention, torch.float32))
        except Exception:  # of a config that describes no model, or one that is refused
            continue
        found = read_to_share(model_dir, config, attention, shell, longest=0, row_tokens=None)
        plain = whole_model(model_dir, config, attention, torch.float32)
        if found.found != expected and expected.has_router:
            # Rounding, which memory's alignment changes, may send a token to another expert: the
            # deep model is then held for one whose examples see each other, which costs time alone.
            expected = found_in_whole(plain)
        assert_the_same(found, plain, expected)
        (lean if is_lean(found) else whole).append(kind)
    print(f"as in the files: {lean}; in float32: {whole}")
    assert len(lean) >= 5 and {kind for kind in KNOWN if kind in kinds} <= set(lean), whole


def test_the_probes_of_a_deep_model_take_its_first_layers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []

    def spied(model: Any, *, longest: int = 0) -> Any:
        depths.append(len(model.model.layers))
        return probed(model, longest=longest)

    monkeypatch.setattr(reading, "probed", spied)
    found, _ = read(written(tmp_path / "model", "gemma2", torch.bfloat16))
    assert depths == [2]
    assert is_lean(found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_format_of_half_the_size_is_known_and_several_are_none(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    model_dir = written(tmp_path / "model", "llama", dtype)
    assert stored_dtype(model_dir) is dtype
    file = model_dir / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = weights["model.norm.weight"].float()
    save_file(weights, file, metadata={"format": "pt"})
    assert stored_dtype(model_dir) is torch.float32
    assert_the_same(*read(model_dir))


def test_a_weight_that_is_no_number_is_refused_however_deep_it_lies(tmp_path: Path) -> None:
    model_dir = written(tmp_path / "model", "llama", torch.bfloat16)
    file = model_dir / "model.safetensors"
    weights = load_file(file)
    name = f"model.layers.{DEPTH - 1}.mlp.up_proj.weight"
    weights[name][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"hold NaN or infinity, for example in {name}; copy"):
        read(model_dir)


def test_a_buffer_that_only_the_whole_model_has_is_read_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = written(tmp_path / "model", "llama", torch.bfloat16)
    build = whole_model
    dtypes = []

    def with_scale(directory: Path, config: Any, attention: str, dtype: torch.dtype) -> Any:
        model = build(directory, config, attention, dtype)
        scale = torch.tensor(1 / 3, dtype=dtype)
        model.model.layers[-1].register_buffer("scale", scale, persistent=False)
        dtypes.append(dtype)
        return model

    config = model_config(model_dir)
    shell = described_model(config, "sdpa")
    shell.model.layers[-1].register_buffer("scale", torch.tensor(0.0, device="meta"), False)
    monkeypatch.setattr(reading, "whole_model", with_scale)
    found = read_to_share(model_dir, config, "sdpa", shell, longest=0, row_tokens=None)
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32]  # asked, and read again
    assert found.buffers[f"model.layers.{DEPTH - 1}.scale"] == torch.tensor(1 / 3)


def test_first_layers_are_few_or_none(tmp_path: Path) -> None:
    config = CONFIG_MAPPING["llama"]()
    shallow = tiny_copy(config, 3, "sdpa")
    assert layers_of_every_kind(shallow, shallow.config) == 2
    before = copy.deepcopy(shallow.config)
    assert reading.first_layers(shallow, shallow.config, "sdpa") is None  # two of three are most
    assert shallow.config.to_dict() == before.to_dict()
    deep = deep_model("llama", 16)
    first = reading.first_layers(deep, deep.config, "sdpa")
    assert len(first.model.layers) == 2
    assert torch.equal(
        first.model.layers[1].mlp.up_proj.weight, deep.model.layers[1].mlp.up_proj.weight
    )
