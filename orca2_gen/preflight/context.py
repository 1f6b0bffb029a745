"""Does an answer fit the context of its engine, and the engine's settings its model?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from orca2_gen.chat import Chat
from orca2_gen.config.arguments import Room
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.lengths import length_budget, plan_length
from orca2_gen.records import Problem, Rejection
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular
from orca2_gen.strategies import Strategies

_MOST_BYTES = 16 << 20
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""Keys of a model's config.json from which vLLM derives the longest context, among others."""


def check_longest_answer(
    section: str, room: Room, chat: Chat, strategies: Strategies, budget: str
) -> None:
    """Checks that the shortest problem fits with its longest answer; else every row is rejected.

    Args:
        section: the engine's section in the config.
        room: what the engine offers.
        chat: its tokenizer.
        strategies: the run's.
        budget: the keys that say how long an answer may be.

    Raises:
        ValueError: it does not; one line with the lengths.
    """
    shortest = Problem(
        problem_id="shortest", task="shortest", question="", target="", answer_type="open"
    )
    found = plan_length(shortest, strategies, [length_budget(room, chat, strategies)])
    if isinstance(found, Rejection):
        raise ValueError(
            f"{budget}: even an empty question does not fit the {room.role}'s context "
            f"({found.detail.partition(': ')[2]}), so every row would be rejected; lower it, or "
            f"raise {section}.max_model_len"
        )


def check_model_file(section: str, engine: VLLMEngineConfig) -> None:
    """Checks an engine's settings against its model's config.json, as vLLM does.

    Raises:
        ValueError: vLLM would refuse them; one line that names the key.
    """
    path = Path(engine.model) / "config.json"
    body = _overridden(_model_config(section, path), engine.engine_arguments.get("hf_overrides"))
    heads = body.get("num_attention_heads")
    if isinstance(heads, int) and heads > 0 and heads % engine.tensor_parallel_size:
        raise ValueError(
            f"{section}.tensor_parallel_size is {engine.tensor_parallel_size}, and {path} has "
            f"num_attention_heads {heads}; the first must divide the second"
        )
    layers = body.get("num_hidden_layers")
    if isinstance(layers, int) and layers < engine.pipeline_parallel_size:
        raise ValueError(
            f"{section}.pipeline_parallel_size is {engine.pipeline_parallel_size}, and {path} has "
            f"num_hidden_layers {layers}; there are not enough layers"
        )
    longest = _longest_context(body, engine)
    if longest is not None and engine.max_model_len > longest:
        raise ValueError(
            f"{section}.max_model_len is {engine.max_model_len}, and {path} says that the model "
            f"reads at most {longest} tokens; lower max_model_len"
        )


def _model_config(section: str, path: Path) -> dict[str, Any]:
    try:
        body = json.loads(read_regular(path, _MOST_BYTES))
    except FileNotFoundError:
        raise ValueError(
            f"{section}.model: {path.parent} holds no config.json; give the directory of a model"
        ) from None
    except UnusableFile as error:
        raise ValueError(f"{section}.model: {error}; copy the model again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{section}.model: {path} is damaged: not JSON; copy the model again"
        ) from error
    if not isinstance(body, dict):
        raise ValueError(
            f"{section}.model: {path} is damaged: expected a JSON object; copy the model again"
        )
    return body


def _overridden(body: dict[str, Any], overrides: Any) -> dict[str, Any]:
    """A model's config with what `hf_overrides` says, as vLLM joins the two."""
    joined = dict(body)
    for name, value in overrides.items() if isinstance(overrides, dict) else ():
        below = body.get(name)
        # A config within the config is changed in part, any other table as a whole.
        if name.endswith("_config") and isinstance(below, dict) and isinstance(value, dict):
            joined[name] = _overridden(below, value)
        else:
            joined[name] = value
    return joined


def _longest_context(body: dict[str, Any], engine: VLLMEngineConfig) -> int | None:
    """The longest context that vLLM accepts; None where it may know better than its config says."""
    allowed = engine.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN")
    if (allowed or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0")) not in ("0", ""):
        return None
    # A scaled context is longer than its keys say, and a model of several parts has several.
    scaled = body.get("rope_scaling") or _scaled(body.get("rope_parameters"))
    if scaled or "text_config" in body or "model_max_length" in body:
        return None
    found = [body[key] for key in _LENGTHS if isinstance(body.get(key), int)]
    return min(found) if found else None


def _scaled(parameters: Any) -> bool:
    if not isinstance(parameters, dict):
        return False
    return parameters.get("rope_type", "default") != "default" or any(
        isinstance(part, dict) for part in parameters.values()
    )
