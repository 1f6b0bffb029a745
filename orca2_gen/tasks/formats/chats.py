"""A chat in a row -> the question that it asks and the reply that it gives.

    "messages": [{"role": "system", "content": "Be brief."},
                 {"role": "user", "content": "What pulls the tides?"},
                 {"role": "assistant", "content": "The moon."}]
    "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]

The question is everything before the last reply, with a blank line between the parts. Of one
exchange it is the system message and the user's; earlier exchanges stand before the last user
message as `User: ...` and `Assistant: ...`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from orca2_gen.tasks.statements import BadRowError, describe

CHAT_KEYS = ("messages", "conversations")
"""Keys under which a plain row may have a chat."""

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_SPEAKERS = {"user": "User", "assistant": "Assistant"}

Turn = tuple[str, str]
"""Role and text."""


def read_chat(chat: object, key: str) -> tuple[str, str | None]:
    """The question and the reply; the reply is None if the chat ends with the question.

    Raises:
        BadRowError: the chat is not one that asks and answers in turn.
    """
    if not isinstance(chat, list) or not chat:
        raise BadRowError(
            "bad_chat", f"expected a list of messages under {key!r}, found {describe(chat)}"
        )
    turns = [_turn(message, key) for message in chat]
    opening = [text for role, text in itertools.takewhile(_is_system, turns) if text]
    talk = turns[sum(1 for _ in itertools.takewhile(_is_system, turns)) :]
    expected = itertools.cycle(("user", "assistant"))
    if not talk or any(role != due for (role, _), due in zip(talk, expected, strict=False)):
        order = ", ".join(role for role, _ in turns[:6])
        raise BadRowError(
            "bad_chat",
            f"expected user and assistant in turn under {key!r}, after any system message, found "
            f"{order}{', ...' if len(turns) > 6 else ''}",
        )
    if any(not text for _, text in talk):
        raise BadRowError("bad_chat", f"a message under {key!r} is blank")
    reply = talk.pop()[1] if talk[-1][0] == "assistant" else None
    return "\n\n".join([*opening, *_asked(talk)]), reply


def _asked(talk: Sequence[Turn]) -> list[str]:
    if len(talk) == 1:
        return [talk[0][1]]
    return [f"{_SPEAKERS[role]}: {text}" for role, text in talk]


def _is_system(turn: Turn) -> bool:
    return turn[0] == "system"


def _turn(message: object, key: str) -> Turn:
    if not isinstance(message, Mapping):
        detail = f"expected messages with role and content under {key!r}, found {describe(message)}"
        raise BadRowError("bad_chat", detail)
    said = message.get("role") if message.get("role") is not None else message.get("from")
    role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        detail = f"expected the roles system, user and assistant under {key!r}, found "
        raise BadRowError("bad_chat", detail + describe(said))
    content = message.get("content") if message.get("content") is not None else message.get("value")
    return role, _text(content, key)


def _text(content: object, key: str) -> str:
    """The text of a message, which may be a list of parts that are texts."""
    parts = content if isinstance(content, list) else [content]
    texts = [
        part.get("text")
        if isinstance(part, Mapping) and part.get("type", "text") == "text"
        else part
        for part in parts
    ]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) < len(texts):
        detail = f"expected text in every message under {key!r}, found {describe(content)}"
        raise BadRowError("bad_chat", detail)
    return "\n".join(found).strip()
