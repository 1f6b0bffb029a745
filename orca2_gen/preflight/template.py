"""Can a model's tokenizer be loaded, and does its chat template render our conversations?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from orca2_gen.chat import Chat, Rendering, encode_conversation
from orca2_gen.config.arguments import Room
from orca2_gen.lengths import length_budget
from orca2_gen.prompts import prompt_messages
from orca2_gen.records import Message
from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular
from orca2_gen.strategies import Strategies

_MOST_BYTES = 256 << 20
"""Bytes of a tokenizer's file; the largest published ones have about 35 million."""


ChatOf = Callable[[str, Rendering], Chat]
"""Directory and rendering -> its Chat."""


def loaded_chat(key: str, directory: str, rendering: Rendering, chat_of: ChatOf) -> Chat:
    """The Chat of a tokenizer directory.

    Raises:
        ValueError: its files are absent, damaged or of no use; one line that names the key.
    """
    for name in TOKENIZER_FILES:
        if name.endswith(".json"):
            _check_json(key, Path(directory) / name)
    try:
        chat = chat_of(directory, rendering)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library panics, which is no Exception
        reason = _first_line(error)
        if isinstance(error, ValueError) and reason.startswith(directory):
            raise ValueError(f"{key}: {reason}") from error
        raise ValueError(
            f"{key}: the tokenizer in {directory} cannot be loaded ({reason}); copy the model "
            "again, or save its tokenizer with save_pretrained"
        ) from error
    return chat


def check_template(key: str, room: Room, chat: Chat, strategies: Strategies) -> None:
    """Checks that every conversation of a run can be rendered.

    Raises:
        ValueError: the template has a fault, or refuses a conversation; one line.
    """
    try:
        length_budget(room, chat, strategies)
        if room.role == "student":
            asked = prompt_messages(strategies.cautious_message, "1 + 1?")
            encode_conversation(chat, [*asked, Message(role="assistant", content="2")])
        elif room.judged_tokens is not None:
            encode_conversation(
                chat, [*prompt_messages("Judge.", "1"), Message(role="assistant", content="5")]
            )
    except ValueError as error:
        raise ValueError(f"{key}: {room.tokenizer}: {_first_line(error)}") from error


def _check_json(key: str, path: Path) -> None:
    if not path.is_file():
        return
    try:
        body = json.loads(read_regular(path, _MOST_BYTES))
    except UnusableFile as error:
        raise ValueError(f"{key}: {error}; copy the model again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: {path} is damaged: not JSON; copy the model again") from error
    if not isinstance(body, dict):
        raise ValueError(
            f"{key}: {path} is damaged: expected a JSON object, found something else; "
            "copy the model again"
        )
    ends = body.get("eos_token_id") if path.name == "generation_config.json" else None
    for token in ends if isinstance(ends, list) else [ends]:
        if token is not None and type(token) is not int:
            raise ValueError(
                f"{key}: eos_token_id in {path} is {token!r}: expected a whole number, or a list "
                "of them; copy the model again"
            )


def _first_line(error: BaseException) -> str:
    lines = str(error).split("\n")
    return (lines[0].strip() or type(error).__name__)[:300]
