"""A directory -> the models below it, by size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.json_files import read_json

DEPTH = 3
"""Folders below the given one that are looked into, e.g. models/meta-llama/Llama-2-7b-chat-hf."""
_NEEDED = ("config.json", "tokenizer.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A directory that looks like a model's."""

    directory: Path
    num_bytes: int
    """Of its safetensors files."""
    num_positions: int | None
    """The longest context that its config names; None if it names none."""
    has_template: bool
    """Whether it has a chat template; a base model has none."""
    num_heads: tuple[int, ...] = ()
    """Attention heads, and those of keys and values, as far as its config names them."""
    is_quantized: bool = False
    """Whether its weights are, so that it cannot be trained."""


def models_in(root: Path) -> list[FoundModel]:
    """The models in `root` and below, the smallest first; each once, whatever links lead to it."""
    found = (_model(directory) for directory in _directories(root, DEPTH))
    models = {os.path.realpath(each.directory): each for each in found if each is not None}
    return sorted(models.values(), key=lambda model: (model.num_bytes, str(model.directory)))


def _directories(root: Path, depth: int) -> Iterator[Path]:
    below: list[Path] = []
    with suppress(OSError):  # another user's
        if not root.is_dir():
            return
        below = sorted(root.iterdir()) if depth else []
    yield root
    for path in below:
        if not path.name.startswith("."):
            yield from _directories(path, depth - 1)


def _model(directory: Path) -> FoundModel | None:
    try:
        weights = [
            path
            for path in directory.glob("*.safetensors")
            # Mistral's own files hold the same weights again.
            if path.is_file() and not path.name.startswith(("consolidated", "adapter_"))
        ]
        if not weights or not all((directory / name).is_file() for name in _NEEDED):
            return None
        num_bytes = sum(path.stat().st_size for path in weights)
    except OSError:
        return None
    config = _object(directory / "config.json")
    text = config.get("text_config")
    sections = [config, text] if isinstance(text, dict) else [config]
    return FoundModel(
        directory=directory,
        num_bytes=num_bytes,
        num_positions=_number(sections, _POSITIONS),
        has_template=any((directory / name).is_file() for name in _TEMPLATES)
        or "chat_template" in _object(directory / "tokenizer_config.json"),
        num_heads=tuple(
            number for key in _HEADS if (number := _number(sections, (key,))) is not None
        ),
        is_quantized="quantization_config" in config,
    )


_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length")
_HEADS = ("num_attention_heads", "n_head", "num_key_value_heads")


def _number(sections: Sequence[Mapping[str, object]], keys: Sequence[str]) -> int | None:
    """The first whole number that a config has under one of these keys."""
    for section in sections:
        for key in keys:
            value = section.get(key)
            if isinstance(value, int) and value > 0:
                return value
    return None


def _object(path: Path) -> dict[str, object]:
    """What a JSON file holds; nothing if it is none, which preflight says better."""
    try:
        value = read_json(path)
    except (OSError, DamagedFile):
        return {}
    return value if isinstance(value, dict) else {}
