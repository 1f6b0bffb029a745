"""Length planning: a Problem goes on only if every prompt it will become fits its engine, answer
included.

It comes before any engine, so that no prompt is ever cut and no strategy of a problem is missing
from its race.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.chat import Chat, ControlTokenError, encode_prompt, encode_text, load_chat
from orca2_gen.records import Problem, Rejection
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies, prompt_messages, user_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What one engine offers a prompt and its answer together."""

    role: str
    tokenizer: str
    """Directory of the engine's tokenizer and chat template."""
    max_model_len: int
    max_tokens: int
    """Of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBudget:
    """A Room with its tokenizer loaded."""

    room: Room
    chat: Chat
    frame_tokens: int
    """Template and longest system message: what every prompt holds beside the user's text."""


def length_budget(room: Room, strategies: Strategies) -> LengthBudget:
    """The LengthBudget of an engine under every strategy and the cautious message."""
    chat = load_chat(room.tokenizer)
    systems = [strategies.system_message(name) for name in (*strategies.names, CAUTIOUS, EMPTY)]
    # Messages are encoded apart from the template (chat.py), so lengths add up exactly.
    frame_tokens = max(len(encode_prompt(chat, prompt_messages(system, ""))) for system in systems)
    return LengthBudget(room=room, chat=chat, frame_tokens=frame_tokens)


def plan_length(
    problem: Problem, strategies: Strategies, budgets: Sequence[LengthBudget]
) -> Problem | Rejection:
    """The problem itself, or why it cannot be asked: too long for an engine, or not encodable as
    plain text.
    """
    text = user_text(problem, strategies)
    for budget in budgets:
        room = budget.room
        try:
            needed = budget.frame_tokens + len(encode_text(budget.chat, text))
        except ControlTokenError as error:
            return Rejection(
                problem_id=problem.problem_id,
                stage="problems",
                reason="control_token",
                detail=f"{room.role}: {error}",
            )
        if needed + room.max_tokens > room.max_model_len:
            return Rejection(
                problem_id=problem.problem_id,
                stage="problems",
                reason="prompt_too_long",
                detail=f"{room.role}: the longest prompt takes {needed} tokens and the answer "
                f"{room.max_tokens} more, max_model_len is {room.max_model_len}",
            )
    return problem
