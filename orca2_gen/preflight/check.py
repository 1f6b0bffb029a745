"""Every question, in the order of what it costs to answer."""

from __future__ import annotations

from typing import Any

from orca2_gen.config.arguments import Room, evaluation_rooms, rooms
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.preflight.context import check_longest_answer, check_model_file
from orca2_gen.preflight.engine_fields import check_drafts, check_fields
from orca2_gen.preflight.task_files import check_task_files
from orca2_gen.preflight.template import ChatOf, check_template, loaded_chat
from orca2_gen.strategies import Strategies


def check_config(config: Config, strategies: Strategies, chat_of: ChatOf) -> None:
    """Checks that a run of the config could make a single row.

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
    for room in rooms(config, strategies):
        check_engine_files(
            room.role, engines[room.role], [room], strategies, chat_of, _budget(room)
        )
    if config.evaluation.tasks:
        room = evaluation_rooms(config)[0]
        check_engine_files(
            "student", config.student, [room], strategies, chat_of, "evaluation.max_tokens"
        )


def check_engine_files(
    section: str,
    engine: EngineConfig,
    asked: list[Room],
    strategies: Strategies,
    chat_of: ChatOf,
    budget: str,
) -> None:
    """Checks that an engine's files can be used and that an answer fits its context.

    Args:
        section: the engine's section in the config.
        engine: the engine.
        asked: rooms of what it is asked.
        strategies: the run's.
        chat_of: see `check_config`.
        budget: the keys that say how long an answer may be.

    Raises:
        ValueError: one line that names the key.
    """
    is_model = isinstance(engine, VLLMEngineConfig)
    key = f"{section}.{'model' if is_model else 'tokenizer'}"
    if isinstance(engine, VLLMEngineConfig):
        check_model_file(section, engine)
        check_drafts(section, engine.engine_arguments)
    for room in asked:
        chat = loaded_chat(key, room.tokenizer, room.rendering, chat_of)
        check_template(key, room, chat, strategies)
        check_longest_answer(section, room, chat, strategies, budget)


def _budget(room: Room) -> str:
    keys: dict[str, Any] = {
        "student": "scoring.max_tokens (retry included)",
        "teacher": "rationales.max_tokens (and scoring's)",
        "judge": "judging.max_tokens and scoring.max_tokens",
    }
    return str(keys[room.role])
