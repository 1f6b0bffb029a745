from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orca2_gen.draft.models import models_in

ROOT = Path(__file__).parents[2]


def model(folder: Path, num_bytes: int, config: object = None, *files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * num_bytes)
    (folder / "config.json").write_text(json.dumps(config if config is not None else {}))
    (folder / "tokenizer.json").write_text("{}")
    for name in files:
        (folder / name).write_text("{}")
    return folder


def test_models_are_found_below_a_directory_the_smallest_first(tmp_path: Path) -> None:
    model(tmp_path / "meta/Llama-70b", 700, {"max_position_embeddings": 4096})
    model(tmp_path / "small", 7, {"text_config": {"max_position_embeddings": 2048}})
    (tmp_path / "datasets").mkdir()
    found = models_in(tmp_path)
    assert [(each.directory.name, each.num_positions) for each in found] == [
        ("small", 2048),
        ("Llama-70b", 4096),
    ]
    assert models_in(tmp_path / "none") == []


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_directory_without_what_a_model_has_is_none(tmp_path: Path, missing: str) -> None:
    (model(tmp_path / "m", 5) / missing).unlink()
    assert models_in(tmp_path) == []


def test_a_chat_template_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    model(tmp_path / "base", 1)
    model(tmp_path / "jinja", 2, None, "chat_template.jinja")
    inside = model(tmp_path / "inside", 3)
    (inside / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert [each.has_template for each in models_in(tmp_path)] == [False, True, True]


@pytest.mark.parametrize("body", ["", "[1]", "{", '{"max_position_embeddings": "long"}'])
def test_a_broken_config_is_left_to_preflight(tmp_path: Path, body: str) -> None:
    (model(tmp_path / "m", 5) / "config.json").write_text(body)
    [found] = models_in(tmp_path)
    assert found.num_positions is None


def test_a_model_counts_once_and_without_what_is_there_twice(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", 5, {"num_attention_heads": 40, "num_key_value_heads": 10})
    (folder / "consolidated.safetensors").write_bytes(b"x" * 5)
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    [found] = models_in(tmp_path)
    assert found.num_bytes == 5 and found.num_heads == (40, 10) and not found.is_quantized
    (folder / "config.json").write_text('{"quantization_config": {}}')
    assert models_in(tmp_path)[0].is_quantized


def test_the_microworld_s_models_are_models(tmp_path: Path) -> None:
    for name in ("student", "teacher"):
        shutil.copytree(ROOT / "orca2_gen/microworld" / name, tmp_path / name)
    assert all(each.has_template and each.num_positions for each in models_in(tmp_path))
