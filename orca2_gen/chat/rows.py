"""A template's text in the answer's turn of a training row, behind the prompt.

A row is its prompt, continued as the template itself writes the whole conversation. Three kinds of
templates part the two. Some put more before the answer than the prompt ends with (the final channel
of harmony, the empty block of Qwen3): the row trains that too. Some prompts begin a thought that
the row of the template does not have (DeepSeek-R1) or never ends (Nemotron Nano): the row closes
it. Some cut thoughts out of every answer: a thought that is kept stands between the model's own
markers.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca2_gen.chat.chat import Chat, Parts, shape_of
from orca2_gen.chat.markers import remainder
from orca2_gen.chat.templates import REASONING, TemplateError


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTexts:
    """A template's text in the answer's turn."""

    opening: str
    """Between the prompt and the thought, or the answer if there is no thought."""
    between: str
    """Between the thought and the answer; empty without a thought."""
    closing: str
    """After the answer."""


def answer_texts(chat: Chat, parts: Parts) -> AnswerTexts:
    """The AnswerTexts of a conversation that an assistant's answer ends.

    Raises:
        TemplateError: the template cannot hold the conversation.
        ValueError: it has a thought, and the model has no markers for one.
    """
    assert parts[-1] == "assistant"
    has_thought = parts[-2:-1] == (REASONING,)
    prompt = shape_of(chat, parts[: -2 if has_thought else -1]).texts
    whole = _whole(chat, parts)
    num_said = len(prompt) - 1
    if whole is not None and whole[:num_said] == prompt[:-1]:
        start = whole[num_said]
        if start.startswith(prompt[-1]):
            return AnswerTexts(
                opening=start.removeprefix(prompt[-1]) + _missing_end(chat, start, has_thought),
                between=whole[num_said + 1] if has_thought else "",
                closing=whole[-1],
            )
    answered = (*parts[:-2], parts[-1]) if has_thought else parts
    written = shape_of(chat, answered).texts
    thinking = chat.thinking
    if thinking is None:
        if has_thought:
            raise ValueError(f"{chat.directory}: the model has no markers for a thought")
        return AnswerTexts(opening="", between="", closing=written[-1])
    is_open = begins_thought(prompt[-1], thinking.opening, thinking.ending)
    if has_thought:
        opening = "" if is_open else thinking.opening
        return AnswerTexts(opening=opening, between=thinking.closing, closing=written[-1])
    opening = thinking.closing if is_open else answer_head(chat, prompt[-1], written[-2])
    return AnswerTexts(opening=opening, between="", closing=written[-1])


def answer_head(chat: Chat, prompt: str, written: str) -> str:
    """What a template writes before an answer without a thought and not into a prompt, without
    the thought itself, which is empty, or its end.
    """
    head = remainder(chat, prompt, written)
    thinking = chat.thinking
    if thinking is None:
        return head
    if thinking.ending.strip() in head:
        return head.rpartition(thinking.ending.strip())[2].lstrip()
    return "" if begins_thought(head, thinking.opening, thinking.ending) else head


def _missing_end(chat: Chat, start: str, has_thought: bool) -> str:
    """The end of a thought that a template begins before an answer and never ends."""
    thinking = chat.thinking
    if thinking is None or has_thought:
        return ""
    is_open = begins_thought(start, thinking.opening, thinking.ending)
    return thinking.closing if is_open else ""


def _whole(chat: Chat, parts: Parts) -> tuple[str, ...] | None:
    """The template's text around all parts; None if it leaves the thought out."""
    try:
        return shape_of(chat, parts).texts
    except TemplateError:
        if REASONING not in parts:
            raise
        return None


def begins_thought(text: str, opening: str, closing: str) -> bool:
    """Whether a text opens a thought between such markers and does not close it."""
    start, end = opening.strip(), closing.strip()
    return bool(start) and text.rfind(start) > text.rfind(end)
