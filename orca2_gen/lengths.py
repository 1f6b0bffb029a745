"""Length planning: a Problem is kept only if all its prompts fit their engines, answers included.

It runs before any engine, so no prompt is ever cut and no strategy of a problem is missing from its
race.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.chat import Chat, ControlTokenError, encode_prompt, encode_text, shape_of
from orca2_gen.config.arguments import Room
from orca2_gen.endings import num_ending_ids
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.judging import judging_messages
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Message, Problem, Rejection
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies

ENDED_TYPES = tuple(ANSWER_SENTENCES)
"""Answer types that a forced ending may be asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBudget:
    """A Room with its tokenizer loaded."""

    room: Room
    chat: Chat
    frame_tokens: int
    """Tokens of the longest prompt beside the problem's text: template, system message and, with
    several calls, all texts before the last; in a judge's prompt, the answer."""
    space: str = ""
    """White space of the template that is encoded with the problem's text."""
    ended_tokens: int = 0
    """Tokens of the longest answer with its forced ending; 0 if none is asked for."""

    def answer_tokens(self, problem: Problem) -> int:
        """Tokens of the longest answer to a problem, its forced ending included."""
        if problem.answer_type not in ENDED_TYPES:
            return self.room.max_tokens
        return max(self.room.max_tokens, self.ended_tokens)


def length_budget(room: Room, chat: Chat, strategies: Strategies) -> LengthBudget:
    """The LengthBudget of an engine with this Chat, for every strategy and the cautious message."""
    if room.judged_tokens is not None:
        return LengthBudget(room=room, chat=chat, frame_tokens=room.judged_tokens)
    frames: list[tuple[str, tuple[str, ...]]]
    frames = [(strategies.system_message(name), ()) for name in (CAUTIOUS, EMPTY)]
    frames += [
        (text, strategies.further_calls.get(name, ())) for name, text in _systems(strategies)
    ]
    # Messages are encoded apart from the template (chat.py), so lengths add up exactly.
    frame_tokens = max(_frame_tokens(room, chat, system, further) for system, further in frames)
    ended_tokens = 0
    if room.ending_tokens is not None:
        ended_tokens = room.scored_tokens + num_ending_ids(chat) + room.ending_tokens
    return LengthBudget(
        room=room,
        chat=chat,
        frame_tokens=frame_tokens,
        space=_space(chat, frames[0][0]),
        ended_tokens=ended_tokens,
    )


def _space(chat: Chat, system: str) -> str:
    """The spaces that the template puts before the user's text."""
    messages = prompt_messages(system, "")
    text = shape_of(chat, tuple(message.role for message in messages)).texts[-2]
    return text[len(text.rstrip(" ")) :]


def _systems(strategies: Strategies) -> list[tuple[str, str]]:
    """(strategy, system message) for every instruction, special ones included."""
    special = [(place[0], text) for place, text in strategies.special_instructions.items()]
    return [*strategies.instructions.items(), *special]


def _frame_tokens(room: Room, chat: Chat, system: str, further_calls: Sequence[str]) -> int:
    """Tokens of the last call's prompt beside the problem's text, with earlier answers in full."""
    messages = list(prompt_messages(system, ""))
    for said in further_calls:
        messages += [Message(role="assistant", content=""), Message(role="user", content=said)]
    return len(encode_prompt(chat, messages)) + len(further_calls) * room.max_tokens


def plan_length(
    problem: Problem,
    strategies: Strategies,
    budgets: Sequence[LengthBudget],
    stage: str = "problems",
) -> Problem | Rejection:
    """The problem, or a Rejection if it is too long for an engine or not encodable as plain text.

    `stage` is the stage of the Rejection.
    """
    text = user_text(problem, strategies)
    for budget in budgets:
        room = budget.room
        is_judges = room.judged_tokens is not None
        if is_judges and problem.answer_type != "open":
            continue
        try:
            # A judge's texts share one message, so they are encoded together.
            of_problem = (
                encode_prompt(budget.chat, judging_messages(problem, ""))
                if is_judges
                else encode_text(budget.chat, budget.space + text)
            )
        except ControlTokenError as error:
            return Rejection(
                problem_id=problem.problem_id,
                stage=stage,
                reason="control_token",
                detail=f"{room.role}: {error}",
            )
        needed = budget.frame_tokens + len(of_problem)
        longest = budget.answer_tokens(problem)
        if needed + longest > room.max_model_len:
            ended = " with its forced ending" if longest > room.max_tokens else ""
            return Rejection(
                problem_id=problem.problem_id,
                stage=stage,
                reason="prompt_too_long",
                detail=f"{room.role}: the longest prompt takes {needed} tokens and the answer"
                f"{ended} {longest} more, max_model_len is {room.max_model_len}; lower "
                f"{room.scored_key if ended else room.answer_key}, or raise "
                f"{room.role}.max_model_len",
            )
    return problem


def plan_lengths(
    problems: Sequence[Problem], room: Room | None, chat: Chat, strategies: Strategies, stage: str
) -> tuple[list[Problem], list[Rejection]]:
    """The problems that fit in a room, and a Rejection of this stage for each of the others.

    Without a room all of them fit.
    """
    if room is None:
        return list(problems), []
    budget = length_budget(room, chat, strategies)
    planned = [plan_length(problem, strategies, [budget], stage) for problem in problems]
    kept = [found for found in planned if isinstance(found, Problem)]
    return kept, [found for found in planned if isinstance(found, Rejection)]
