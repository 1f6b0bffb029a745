"""The markers around a model's thoughts, and a completion -> its thought and its answer.

A thought is found by ids, never in a stranger's text: the markers are tokens that data cannot
become, so a model that quotes `<think>` from its question has quoted it and no more. They are the
ones that the template itself writes around a thought; else a pair of the tokenizer's added tokens
that is named like one. Markers that are ordinary text count only if the config declares them or
the template's prompt ends with the first, and only at the beginning of what the model writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence

from orca2_gen.chat.chat import Chat, Thinking, shape_of
from orca2_gen.chat.encode import template_ids
from orca2_gen.chat.templates import REASONING
from orca2_gen.records import Completion

_NAMED_LIKE_A_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_CLOSERS = (("START", "END"), ("start", "end"), ("begin", "end"), ("BEGIN", "END"))
_OPENED = re.compile(
    r"(<[^<>/]*(?:think|thought|reason)[^<>/]*>|\[\w*THINK\w*\])\s*$", re.IGNORECASE
)
_TAIL_TOKENS = 64
"""Tokens at the end of a prompt in which an opened thought is looked for."""


def thinking_of(chat: Chat) -> Thinking | None:
    """The Thinking of a model; None if neither config, template nor tokenizer has markers."""
    if chat.rendering.thinking:
        start, end = chat.rendering.thinking
        return _thinking(chat, f"{start}\n", f"\n{end}\n\n")
    for found in (_of_template(chat), _of_added_tokens(chat)):
        if found is not None and found.start:
            return found
    return _of_prompt(chat)


def _of_template(chat: Chat) -> Thinking | None:
    """The markers that the template writes around a thought; None if it writes none."""
    try:
        prompt = shape_of(chat, ("user",)).texts
        whole = shape_of(chat, ("user", REASONING, "assistant")).texts
    except ValueError:
        return None
    closing = whole[2]
    if not _has_control(chat, closing):
        return None
    opening = whole[1].removeprefix(prompt[-1]) if whole[1].startswith(prompt[-1]) else ""
    if not opening:  # the prompt has opened the thought already
        added = sorted(_added(chat), key=whole[1].rfind)
        last = added[-1] if added and added[-1] in whole[1] else ""
        opening = whole[1][whole[1].rfind(last) :] if last else ""
    try:
        answered = shape_of(chat, ("user", "assistant")).texts[1]
    except ValueError:
        answered = ""
    before_answer = answered.removeprefix(prompt[-1]) if answered.startswith(prompt[-1]) else ""
    if before_answer.strip().startswith(opening.strip()):
        before_answer = ""  # an empty thought
    return _thinking(chat, opening, closing, before_answer)


def _of_added_tokens(chat: Chat) -> Thinking | None:
    """The first pair of added tokens that is named like the markers of a thought."""
    added = _added(chat)
    for start in added:
        if not _NAMED_LIKE_A_THOUGHT.search(start):
            continue
        ends = [f"{start[0]}/{start[1:]}"]
        ends += [start.replace(old, new) for old, new in _CLOSERS if old in start]
        for end in ends:
            if end in added:
                return _thinking(chat, f"{start}\n", f"\n{end}\n\n")
    return None


def _of_prompt(chat: Chat) -> Thinking | None:
    """The markers of ordinary text of which the template's prompt ends with the first."""
    with contextlib.suppress(ValueError):
        if found := _OPENED.search(shape_of(chat, ("user",)).texts[-1]):
            start = found[1]
            return _thinking(chat, f"{start}\n", f"\n{start[0]}/{start[1:]}\n\n")
    return None


def _added(chat: Chat) -> list[str]:
    tokens = chat.tokenizer.added_tokens_decoder
    return [str(token.content) for index, token in sorted(tokens.items())]


def _has_control(chat: Chat, text: str) -> bool:
    return not chat.control_ids.isdisjoint(template_ids(chat, text))


def _thinking(chat: Chat, opening: str, closing: str, before_answer: str = "") -> Thinking:
    start = template_ids(chat, opening.strip())
    end = template_ids(chat, closing.strip())
    are_tokens = not (chat.control_ids.isdisjoint(start) or chat.control_ids.isdisjoint(end))
    return Thinking(
        opening=opening,
        closing=closing,
        start=start if are_tokens else (),
        end=end if are_tokens else (),
        answer=template_ids(chat, before_answer.strip()),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """Generated ids, parted at the end of their thought."""

    reasoning: tuple[int, ...]
    answer: tuple[int, ...]
    is_open: bool
    """Whether the thought never ended, so that there is no answer."""


def parted(chat: Chat, prompt: Sequence[int], generated: Sequence[int]) -> Thought:
    """The thought and the answer in what a model generated behind a prompt, without its end ids."""
    ids = without_end(chat, generated)
    thinking = chat.thinking
    if thinking is None or not thinking.start:
        return Thought(reasoning=(), answer=ids, is_open=False)
    begun = _after(chat, thinking.start, ids)
    is_open = begun is not None or opens_thought(chat, prompt)
    rest = ids if begun is None else begun
    at = _find(rest, thinking.end)
    # Some models leave out the marker at the beginning, and only they write the one at the end.
    if at >= 0:
        return Thought(reasoning=rest[:at], answer=rest[at + len(thinking.end) :], is_open=False)
    if is_open:
        return Thought(reasoning=rest, answer=(), is_open=True)
    answer = _after(chat, thinking.answer, ids) if thinking.answer else None
    return Thought(reasoning=(), answer=ids if answer is None else answer, is_open=False)


def split_thought(chat: Chat, prompt: Sequence[int], completion: Completion) -> Completion:
    """The completion with its thought in a field of its own; the text is the answer alone."""
    thinking = chat.thinking
    if thinking is None:
        return completion
    if not thinking.start:
        return _split_text(chat, thinking, prompt, completion)
    ids = without_end(chat, completion.token_ids)
    if chat.control_ids.isdisjoint(ids) and not opens_thought(chat, prompt):
        return completion  # the engine's text is as good
    thought = parted(chat, prompt, completion.token_ids)
    return dataclasses.replace(
        completion,
        text=_decoded(chat, thought.answer),
        reasoning=_decoded(chat, thought.reasoning),
    )


def _split_text(
    chat: Chat, thinking: Thinking, prompt: Sequence[int], completion: Completion
) -> Completion:
    """The completion parted at markers that are ordinary text."""
    start, end = thinking.opening.strip(), thinking.closing.strip()
    text = completion.text.lstrip()
    if text.startswith(start):
        text = text.removeprefix(start)
    elif not opens_thought(chat, prompt):
        return completion
    reasoning, _, answer = text.partition(end)
    return dataclasses.replace(completion, text=answer.strip(), reasoning=reasoning.strip())


def opens_thought(chat: Chat, prompt: Sequence[int]) -> bool:
    """Whether a prompt ends in a thought, so that the model goes on thinking."""
    thinking = chat.thinking
    assert thinking is not None
    tail = tuple(prompt[-_TAIL_TOKENS:])
    if thinking.start:
        return _rfind(tail, thinking.start) > _rfind(tail, thinking.end)
    shown: str = chat.tokenizer.decode(list(tail))
    return shown.rstrip().endswith(thinking.opening.strip())


def resumable_ids(chat: Chat, prompt: Sequence[int], generated: Sequence[int]) -> tuple[int, ...]:
    """The generated ids to go on from: the end of turn cut off, an open thought closed."""
    ids = without_end(chat, generated)
    thinking = chat.thinking
    if thinking is None:
        return ids
    if thinking.start:
        is_open = parted(chat, prompt, ids).is_open
    else:
        shown: str = chat.tokenizer.decode(list(ids))
        is_begun = shown.lstrip().startswith(thinking.opening.strip())
        is_open = (
            is_begun or opens_thought(chat, prompt)
        ) and thinking.closing.strip() not in shown
    return (*ids, *template_ids(chat, thinking.closing)) if is_open else ids


def has_stray_marker(chat: Chat, prompt: Sequence[int], completion: Completion) -> bool:
    """Whether a thought or answer holds a marker: a second thought, a call of a tool, a role.

    The tokenizer's further words, which are added tokens too, are no markers.
    """
    thought = parted(chat, prompt, completion.token_ids)
    return not chat.marker_ids.isdisjoint((*thought.reasoning, *thought.answer))


def without_end(chat: Chat, generated: Sequence[int]) -> tuple[int, ...]:
    """Generated ids without the end of the turn."""
    ids = tuple(generated)
    while ids and ids[-1] in chat.end_ids:
        ids = ids[:-1]
    return ids


def _decoded(chat: Chat, ids: Sequence[int]) -> str:
    kept = [token for token in ids if token not in chat.marker_ids]
    shown: str = chat.tokenizer.decode(
        kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return shown.strip()


def _after(chat: Chat, marker: Sequence[int], ids: tuple[int, ...]) -> tuple[int, ...] | None:
    """What follows a marker at the beginning, white space before it left out; None without it."""
    at = _find(ids, marker)
    if at < 0 or _decoded(chat, ids[:at]) or not chat.marker_ids.isdisjoint(ids[:at]):
        return None
    return ids[at + len(marker) :]


def _find(ids: Sequence[int], part: Sequence[int]) -> int:
    """The first place of `part` in `ids`; -1 if there is none."""
    size = len(part)
    places = range(len(ids) - size + 1) if size else ()
    return next((at for at in places if tuple(ids[at : at + size]) == tuple(part)), -1)


def _rfind(ids: Sequence[int], part: Sequence[int]) -> int:
    size = len(part)
    places = range(len(ids) - size, -1, -1) if size else ()
    return next((at for at in places if tuple(ids[at : at + size]) == tuple(part)), -1)
