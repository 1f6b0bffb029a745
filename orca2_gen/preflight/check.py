"""Every question, in the order of what it costs to answer."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.config.arguments import (
    Room,
    evaluated_room,
    held_out_judge_room,
    rooms,
    scored_engine,
)
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.mistakes.spelling import hint
from orca2_gen.preflight.context import check_longest_answer, context_lines
from orca2_gen.preflight.engine_arguments import argument_lines
from orca2_gen.preflight.engine_fields import check_fields
from orca2_gen.preflight.instructions import check_erasable
from orca2_gen.preflight.model_config import hf_overrides
from orca2_gen.preflight.task_files import check_task_files
from orca2_gen.preflight.template import ChatOf, check_template, loaded_chat, template_lines
from orca2_gen.preflight.thoughts import check_kept_thoughts, check_thinking_tokens
from orca2_gen.preflight.vocabulary import vocabulary_lines
from orca2_gen.preflight.weights import Weights, read_weights
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLines:
    """What the questions found out about one engine's files, in lines for people."""

    key: str
    """Key in the config that names the directory, e.g. student.model."""
    directory: str
    facts: tuple[str, ...]
    odd: tuple[str, ...]
    """Lines about what is unusual and stops nothing."""


def check_config(
    config: Config, strategies: Strategies, chat_of: ChatOf
) -> tuple[EngineLines, ...]:
    """What the files of a run's engines are, if it could make a single row with them.

    Args:
        config: its paths exist.
        strategies: the texts of its strategies file.
        chat_of: a tokenizer directory and a rendering -> its Chat; it may raise anything.

    Raises:
        ValueError: one line that names the key.
    """
    for section in ("student", "teacher", "judge"):  # first: a misspelt name takes no time to find
        named = getattr(config, section)
        if isinstance(named, VLLMEngineConfig):
            check_fields(section, named.engine_arguments)
    check_task_files(config)
    engines = {"student": config.student, "teacher": config.teacher}
    if config.judge_of_open is not None:
        engines["judge"] = config.judge_of_open
    asked = (scored_engine(config)[1], config.teacher, config.needed_judge)
    found = []
    for room in rooms(config, strategies):
        engine = engines[room.role]
        is_asked = any(engine is each for each in asked)
        lines = engine_lines(engine, room, strategies, chat_of, needs_weights=is_asked)
        found.append(lines)
        if room.role == "student":
            chat = chat_of(room.tokenizer, room.rendering)
            has_system = bool(strategies.cautious_message)
            check_kept_thoughts(lines.key, config.rationales, chat, has_system)
            if config.erasure.prompts == "erased":
                keeps = config.rationales.thoughts == "keep"
                check_erasable(lines.key, chat, strategies, keeps_thoughts=keeps)
    if config.evaluation.tasks:
        found += _of_evaluation(config, strategies, chat_of, {lines.key for lines in found})
    return tuple(found)


def _of_evaluation(
    config: Config, strategies: Strategies, chat_of: ChatOf, known: Set[str]
) -> Iterator[EngineLines]:
    """What the files are of engines that evaluation alone asks, each of which is checked for it."""
    asked: list[tuple[EngineConfig | None, Room | None]] = [
        (config.student, evaluated_room(config)),
        (config.judge_of_held_out, held_out_judge_room(config, strategies)),
    ]
    for engine, room in asked:
        if engine is None or room is None:
            continue
        lines = engine_lines(engine, room, strategies, chat_of, needs_weights=False)
        if lines.key not in known:
            yield lines


def check_names(config: Config, strategies: Strategies) -> None:
    """Checks that the strategies which a config names are in its strategies file.

    Raises:
        ValueError: one is not; one line that names the key.
    """
    chosen = {"selection.none_solved": config.selection.none_solved}
    if config.selection.policy.startswith("fixed:"):
        chosen = {"selection.policy": config.selection.policy.removeprefix("fixed:")}
    known = strategies.names
    for key, name in chosen.items():
        if name not in known:
            raise ValueError(
                f"{key}: the strategies file has no {name[:100]!r}; {hint(name, known)}"
            )
    for name in config.evaluation.messages:
        if name not in (CAUTIOUS, EMPTY, *known):
            raise ValueError(
                f"evaluation.messages: the strategies file has no {name[:100]!r}; "
                f"{hint(name, (CAUTIOUS, EMPTY, *known))}"
            )


def engine_lines(
    engine: EngineConfig,
    room: Room,
    strategies: Strategies,
    chat_of: ChatOf,
    *,
    needs_weights: bool = True,
) -> EngineLines:
    """What an engine's files are, if they can be used and an answer fits its context.

    Args:
        engine: the engine.
        room: what it offers; its role is the engine's section in the config.
        strategies: the run's.
        chat_of: see `check_config`.
        needs_weights: whether weights that are not whole are an error; else they are odd.

    Raises:
        ValueError: one line that names the key.
    """
    section = room.role
    is_model = isinstance(engine, VLLMEngineConfig)
    key = f"{section}.{'model' if is_model else 'tokenizer'}"
    weights = Weights(tensors={}, facts=(), odd=())
    found: list[tuple[list[str], list[str]]] = []
    if isinstance(engine, VLLMEngineConfig):
        found.append(argument_lines(section, engine))
        found.append(context_lines(section, engine))
        weights = _weights(key, Path(room.tokenizer), is_needed=needs_weights)
    chat = loaded_chat(key, room.tokenizer, room.rendering, chat_of)
    check_template(key, room, chat, strategies)
    check_thinking_tokens(section, engine.thinking_tokens, chat)
    check_longest_answer(room, chat, strategies)
    if isinstance(engine, VLLMEngineConfig):
        overrides = hf_overrides(engine)
        found.append(vocabulary_lines(key, Path(room.tokenizer), chat, weights.tensors, overrides))
    found.append(template_lines(room, chat, strategies))
    return EngineLines(
        key=key,
        directory=room.tokenizer,
        facts=(*weights.facts, *(line for facts, _ in found for line in facts)),
        odd=(*weights.odd, *(line for _, odd in found for line in odd)),
    )


def _weights(key: str, directory: Path, *, is_needed: bool) -> Weights:
    try:
        return read_weights(key, directory)
    except ValueError as error:
        if is_needed:
            raise
        # A directory with a tokenizer alone will do for a model that is asked nothing.
        reason = str(error).removeprefix(f"{key}: ")
        return Weights(tensors={}, facts=(), odd=(f"{reason} (this run reads no weights here)",))
