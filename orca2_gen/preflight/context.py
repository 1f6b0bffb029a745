"""Does an answer fit the context of its engine, and the engine's settings its model?"""

from __future__ import annotations

import bisect
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.chat import Chat
from orca2_gen.config.arguments import Room
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.lengths import ENDED_TYPES, length_budget, plan_length
from orca2_gen.preflight.model_config import (
    hf_overrides,
    model_body,
    overridden,
    said,
    text_config,
)
from orca2_gen.records import Problem, Rejection
from orca2_gen.strategies import Strategies

_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""Keys of a model's config from which vLLM derives the longest context."""
_ALLOW_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_ALREADY_SCALED = (
    *("su", "longrope", "llama3", "yarn", "telechat3-yarn"),
    *("deepseek_yarn", "deepseek_llama_scaling"),
)
"""Rope scalings whose models count them in `max_position_embeddings`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """The longest context of a model, as vLLM derives it from its config."""

    key: str
    """Key that it stands under."""
    positions: int
    """Value of that key."""
    factor: float = 1.0
    """Factor of the rope scaling that is not in it."""
    override: int = 0
    """The model's `model_max_length`, up to which vLLM lets a longer context through."""

    @property
    def longest(self) -> int:
        return max(int(self.positions * self.factor), self.override)

    @property
    def sentence(self) -> str:
        scaled = f", x {self.factor:g} by rope scaling" if self.factor != 1 else ""
        return f"{self.longest} tokens ({self.key} {self.positions}{scaled})"


def check_longest_answer(room: Room, chat: Chat, strategies: Strategies) -> None:
    """Checks that the shortest problem fits with its longest answer; else every row is rejected.

    Args:
        room: what the engine offers; its role is the engine's section in the config.
        chat: its tokenizer.
        strategies: the run's.

    Raises:
        ValueError: it does not; one line with the lengths and the longest answer that fits.
    """
    # An open answer has no forced ending; any other asks for its form in words of its own.
    kinds = [("open",), ENDED_TYPES] if room.ending_tokens is not None else [("open",)]

    def refused(room: Room, kind: tuple[str, ...]) -> Rejection | None:
        fits = length_budget(room, chat, strategies)
        planned = [plan_length(_empty(each), strategies, [fits]) for each in kind]
        rejected = [row for row in planned if isinstance(row, Rejection)]
        return rejected[0] if len(rejected) == len(planned) else None

    for kind in kinds:
        found = refused(room, kind)
        if found is None:
            continue
        is_ended = kind != ("open",)
        rows = "row whose answer may need an ending" if is_ended else "row"
        key, tokens = room.answer_key, room.max_tokens
        if is_ended:
            key, tokens = room.scored_key, room.scored_tokens
        most = bisect.bisect(
            range(1, tokens),
            x=0,
            key=lambda length: any(refused(_lowered(room, length), each) for each in kinds),
        )
        judged = ""
        if room.judged_tokens is not None:
            judged = f", about answers of {room.judged_tokens} tokens ({room.scored_key})"
        lengths = found.detail.partition(": ")[2].rpartition("; ")[0]  # without one row's remedy
        raise ValueError(
            f"{key} is {tokens}{_NOT_SET.get(key, '')}{judged}: even an empty question does not "
            f"fit the {room.role}'s context ({lengths}), so every {rows} would be rejected; "
            f"{_shorter(room, key, most)}{_NO_ENDING if is_ended else ''}raise "
            f"{room.role}.max_model_len"
        )


_NOT_SET = {"scoring.retry_max_tokens": " (if not set, twice scoring.max_tokens)"}
_NO_ENDING = 'set scoring.ask_again = "none", or '


def _lowered(room: Room, most: int) -> Room:
    """The room if no answer to a problem takes more tokens; a judge's, if no reply does."""
    return dataclasses.replace(
        room, max_tokens=min(room.max_tokens, most), scored_tokens=min(room.scored_tokens, most)
    )


def _shorter(room: Room, key: str, most: int) -> str:
    """What to do about answers of which at most so many tokens fit."""
    if not most:
        return f"lower {room.scored_key} or " if room.judged_tokens is not None else ""
    # A second attempt has at least as many tokens as the first.
    keys = f"{key} and scoring.max_tokens" if key in _NOT_SET else key
    return f"lower {keys} to at most {most}, or "


def _empty(answer_type: str) -> Problem:
    """The shortest problem of a type."""
    return Problem(
        problem_id="shortest", task="shortest", question="", target="", answer_type=answer_type
    )


def context_lines(section: str, engine: VLLMEngineConfig) -> tuple[list[str], list[str]]:
    """What an engine's settings make of its model's config.json, and what is odd, in lines.

    Raises:
        ValueError: vLLM would refuse them; one line that names the key.
    """
    path = Path(engine.model) / "config.json"
    overrides = hf_overrides(engine)
    body = overridden(model_body(f"{section}.model", path.parent), overrides)
    text = text_config(path.parent, overrides)
    heads, layers = (
        body.get(name, said(text, name)) for name in ("num_attention_heads", "num_hidden_layers")
    )
    if isinstance(heads, int) and heads > 0 and heads % engine.tensor_parallel_size:
        raise ValueError(
            f"{section}.tensor_parallel_size is {engine.tensor_parallel_size}, and {path} has "
            f"num_attention_heads {heads}; the first must divide the second"
        )
    if isinstance(layers, int) and layers < engine.pipeline_parallel_size:
        raise ValueError(
            f"{section}.pipeline_parallel_size is {engine.pipeline_parallel_size}, and {path} has "
            f"num_hidden_layers {layers}; there are not enough layers"
        )
    context = _unscaled(body) if text is None else _context(text)
    if context is None:
        return [], []
    allowed = engine.env.get(_ALLOW_LONG, os.environ.get(_ALLOW_LONG, "0"))
    is_long = engine.max_model_len > context.longest
    if is_long and allowed in ("0", ""):
        raise ValueError(
            f"{section}.max_model_len is {engine.max_model_len}, and {path} says that the model "
            f"reads at most {context.sentence}; {_remedy(section, context, overrides)}"
        )
    facts = [f"max_model_len {engine.max_model_len}; the model reads {context.sentence}"]
    odd = [f"max_model_len is {engine.max_model_len}, beyond the model's own"] if is_long else []
    return facts, [*odd, *_far(text, engine.max_model_len)]


def _remedy(section: str, context: Context, overrides: Mapping[str, Any]) -> str:
    if not any(name in overrides for name in ("rope_scaling", "rope_parameters")):
        return "lower max_model_len"
    # vLLM takes the positions of a model with ropes of most kinds for scaled already.
    return (
        f"lower max_model_len, or say the longer context too, in "
        f"{section}.engine_arguments.hf_overrides.{context.key}"
    )


def _unscaled(body: dict[str, Any]) -> Context | None:
    """The Context of a model that transformers does not know; None if more than its keys count."""
    # A scaled context is longer than its keys say, and a model of several parts has several.
    scaled = body.get("rope_scaling") or _scaled(body.get("rope_parameters"))
    if scaled or "text_config" in body or "model_max_length" in body:
        return None
    found = {key: body[key] for key in _LENGTHS if type(body.get(key)) is int}
    key = min(found, key=found.__getitem__, default="")
    return Context(key=key, positions=found[key]) if key else None


def _scaled(parameters: Any) -> bool:
    if not isinstance(parameters, dict):
        return False
    return parameters.get("rope_type", "default") != "default" or any(
        isinstance(part, dict) for part in parameters.values()
    )


def _context(text: Any) -> Context | None:
    """The Context of a model's language part, counted as vLLM counts (`_get_and_verify_max_len`);
    None if no key says anything.
    """
    found = {key: said(text, key) for key in _LENGTHS}
    numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
    # A number without end (JSON knows Infinity and NaN) says nothing.
    lengths = {key: value for key, value in numbers.items() if math.isfinite(value)}
    if not lengths:
        return None
    # Of several the smallest, but this one before all others.
    override = lengths.get("model_max_length") or 0
    key = "model_max_length" if override else min(lengths, key=lengths.__getitem__)
    factor: Any = 1.0
    if "gemma3" not in str(text.model_type):  # its positions are scaled already
        for rope in _ropes(text):
            kind = rope.get("rope_type", rope.get("type", "default"))
            if kind not in _ALREADY_SCALED:
                factor = rope.get("factor", factor)
    if not isinstance(factor, int | float) or not math.isfinite(factor):
        factor = 1.0
    return Context(
        key=key, positions=int(lengths[key]), factor=float(factor), override=int(override)
    )


def _ropes(text: Any) -> list[dict[str, Any]]:
    """The rope parameters of a model, one table for each kind of layer."""
    found = said(text, "rope_parameters")
    if not isinstance(found, dict) or not found:
        return []
    is_nested = all(isinstance(part, dict | None) for part in found.values())
    return [part for part in found.values() if part] if is_nested else [found]


def _far(text: Any, max_model_len: int) -> Iterator[str]:
    """A line if texts of this length have positions that the model reads with stretched ropes."""
    for rope in _ropes(text):
        first = rope.get("original_max_position_embeddings")
        if rope.get("rope_type") == "longrope" and type(first) is int and max_model_len > first:
            yield (
                f"max_model_len {max_model_len} is beyond {first} (longrope), so vLLM reads short "
                f"texts with the ropes of long ones too; {first} or less keeps those of short ones"
            )
            return
