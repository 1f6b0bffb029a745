"""Models that are damaged, and whether each is refused with one line before the first step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from train.model import load_sharded
from train.model_directory import check_examples_fit

WEIGHTS = "model.safetensors"


def load(model_dir: Path) -> dict[str, torch.Tensor]:
    check_examples_fit(model_dir, longest=8, largest_id=8)
    loaded = load_sharded(model_dir, dtype=torch.float32, gradient_checkpointing=False)
    return dict(loaded.loss.state_dict())


def edited(model_dir: Path, **changes: Any) -> None:
    config = model_dir / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def with_weights(
    model_dir: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = model_dir / WEIGHTS
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def without_a_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if name != "model.norm.weight"}


def with_one_nan(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights["model.norm.weight"][0] = float("nan")
    return weights


def with_pickled_weights(model_dir: Path) -> None:
    torch.save(load_file(model_dir / WEIGHTS), model_dir / "pytorch_model.bin")
    (model_dir / WEIGHTS).unlink()


def with_an_index_that_names(model_dir: Path, name: str) -> None:
    torch.save(load_file(model_dir / WEIGHTS), model_dir.parent / "pytorch_model.bin")
    torch.save(load_file(model_dir / WEIGHTS), model_dir / "pytorch_model.bin")
    (model_dir / WEIGHTS).unlink()
    (model_dir / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": name}})
    )


def cut(model_dir: Path) -> None:
    body = (model_dir / WEIGHTS).read_bytes()
    (model_dir / WEIGHTS).write_bytes(body[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a config that is cut off": (lambda d: (d / "config.json").write_text("{"), "not a valid JSON"),
    "an empty config": (lambda d: (d / "config.json").write_text("{}"), "holds no model"),
    "a config of a list": (lambda d: (d / "config.json").write_text("[]"), "holds no model"),
    "an unknown architecture": (lambda d: edited(d, model_type="nonesuch"), "nonesuch"),
    "no config": (lambda d: (d / "config.json").unlink(), "holds no model"),
    "no positions": (lambda d: edited(d, max_position_embeddings=None), "holds no model"),
    "another size": (lambda d: edited(d, hidden_size=32, head_dim=16), "other shapes than its con"),
    "more layers": (
        lambda d: edited(d, num_hidden_layers=7),
        "of its weights, for example model.layers",
    ),
    "a weight less": (lambda d: with_weights(d, without_a_norm), "lacks 1 of its weights, for"),
    "a weight that is NaN": (lambda d: with_weights(d, with_one_nan), "are not finite"),
    "weights that are cut off": (cut, "not fully covered"),
    "weights of zeros": (lambda d: (d / WEIGHTS).write_bytes(b"\0" * 99), "holds no model"),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), "holds no model"),
    "pickled weights": (with_pickled_weights, "holds no model"),
    "an index that names a pickle": (
        lambda d: with_an_index_that_names(d, "pytorch_model.bin"),
        "names the weights file 'pytorch_model.bin'",
    ),
    "an index that leads out": (
        lambda d: with_an_index_that_names(d, "../pytorch_model.bin"),
        "names the weights file '../pytorch_model.bin'",
    ),
    "a config that names an adapter": (
        lambda d: edited(d, transformers_weights="adapter_model.bin"),
        "names the weights file 'adapter_model.bin'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_with_one_line_that_names_it(
    tmp_path: Path, model_dir: Path, damage: str
) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    act, words = DAMAGES[damage]
    act(tmp_path / "model")
    with pytest.raises(ValueError) as refused:
        load(tmp_path / "model")
    line = str(refused.value)
    assert words in line and "\n" not in line
    assert str(tmp_path / "model") in line or damage == "a weight that is NaN"
    assert "above" not in line and "pip install" not in line


def test_a_whole_model_with_weights_in_several_files_is_read(
    tmp_path: Path, model_dir: Path
) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    weights = load_file(tmp_path / "model" / WEIGHTS)
    (tmp_path / "model" / WEIGHTS).unlink()
    parts = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(sorted(weights))}
    for part in set(parts.values()):
        held = {name: weights[name] for name, place in parts.items() if place == part}
        save_file(held, tmp_path / "model" / part, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": parts}
    (tmp_path / "model" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    parted, whole = load(tmp_path / "model"), load(model_dir)
    assert parted.keys() == whole.keys()
    assert all(torch.equal(parted[name], whole[name]) for name in whole)
