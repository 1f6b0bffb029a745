"""A directory -> the models below it, by size."""

from __future__ import annotations

from collections.abc import Iterator
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


def models_in(root: Path) -> list[FoundModel]:
    """The models in `root` and below, the smallest first."""
    found = (_model(directory) for directory in _directories(root, DEPTH))
    models = [model for model in found if model is not None]
    return sorted(models, key=lambda model: (model.num_bytes, str(model.directory)))


def _directories(root: Path, depth: int) -> Iterator[Path]:
    if not root.is_dir():
        return
    yield root
    if depth:
        for path in sorted(root.iterdir()):
            if not path.name.startswith("."):
                yield from _directories(path, depth - 1)


def _model(directory: Path) -> FoundModel | None:
    weights = [path for path in directory.glob("*.safetensors") if path.is_file()]
    if not weights or not all((directory / name).is_file() for name in _NEEDED):
        return None
    return FoundModel(
        directory=directory,
        num_bytes=sum(path.stat().st_size for path in weights),
        num_positions=_positions(directory),
        has_template=any((directory / name).is_file() for name in _TEMPLATES)
        or "chat_template" in _object(directory / "tokenizer_config.json"),
    )


def _positions(directory: Path) -> int | None:
    config = _object(directory / "config.json")
    for section in (config, config.get("text_config")):
        if isinstance(section, dict):
            for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
                if isinstance(section.get(key), int):
                    return int(section[key])
    return None


def _object(path: Path) -> dict[str, object]:
    """What a JSON file holds; nothing if it is none, which preflight says better."""
    try:
        value = read_json(path)
    except (OSError, DamagedFile):
        return {}
    return value if isinstance(value, dict) else {}
