"""A model's config.json, as it stands there and as transformers and vLLM understand it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.preflight.headers import check_no_pointer
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

_MOST_BYTES = 16 << 20
_MOST_LAYERS = 10_000
"""A larger number is damage, and transformers would build lists of that length for hours."""
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")


def model_body(key: str, directory: Path) -> dict[str, Any]:
    """The object in a model's config.json.

    Args:
        key: key in the config that names the directory.
        directory: the model's.

    Raises:
        ValueError: there is none; one line that names the key.
    """
    path = directory / "config.json"
    try:
        text = read_regular(path, _MOST_BYTES)
        check_no_pointer(path, text)
    except FileNotFoundError:
        raise ValueError(
            f"{key}: {directory} holds no config.json; give the directory of a model"
        ) from None
    except UnusableFile as error:
        raise ValueError(f"{key}: {error}; copy the model again") from error
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: {path} is damaged: not JSON; copy the model again") from error
    if not isinstance(body, dict):
        raise ValueError(f"{key}: {path} is damaged: expected a JSON object; copy the model again")
    for part in (body, *(value for value in body.values() if isinstance(value, dict))):
        for name in _LAYERS:
            if isinstance(part.get(name), int | float) and part[name] > _MOST_LAYERS:
                raise ValueError(
                    f"{key}: {path} is damaged: {name} is {part[name]:.6g}; expected at most "
                    f"{_MOST_LAYERS}; copy the model again"
                )
    return body


def hf_overrides(engine: VLLMEngineConfig) -> Mapping[str, Any]:
    """What an engine's section puts in the place of its model's config.json."""
    found = engine.engine_arguments.get("hf_overrides")
    return found if isinstance(found, dict) else {}


def overridden(body: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config with overrides, as vLLM joins the two."""
    joined = dict(body)
    for name, value in overrides.items():
        # A config within the config is changed in part, any other table as a whole.
        is_part = name.endswith("_config") and isinstance(value, dict)
        joined[name] = _joined(body.get(name), value) if is_part else value
    return joined


def _joined(below: Any, value: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(value, dict)):
        return value
    return below | {name: _joined(below.get(name), inner) for name, inner in value.items()}


def text_config(directory: Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """The config of a model's language part, with every default in it; None if transformers does
    not know the model, which vLLM still may.

    Args:
        directory: the model's.
        overrides: see `hf_overrides`.
    """
    from transformers import AutoConfig

    if (directory / "params.json").is_file() and any(directory.glob("consolidated*.safetensors")):
        return None  # vLLM reads these instead
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
            _apply(config, overrides or {})
            text = config.get_text_config()
            return text if hasattr(text, "to_dict") else None  # a table where none is expected
    except Exception:  # transformers raises anything where it knows less than vLLM
        return None


def _apply(config: Any, overrides: Mapping[str, Any]) -> None:
    """Puts overrides into a config of transformers, as vLLM does."""
    for name, value in overrides.items():
        part = getattr(config, name, None)
        if isinstance(value, dict) and hasattr(part, "to_dict"):
            _apply(part, value)
        else:
            setattr(config, name, value)


def said(config: Any, key: str) -> Any:
    """The value of a key; None if the config has none, or another for each layer."""
    try:
        return getattr(config, key, None)
    except RuntimeError:  # transformers' word for the second
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from writing to stderr: what matters is a line of ours."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
