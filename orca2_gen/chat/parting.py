"""A completion -> its thought and its answer.

A thought is found by ids, never in a stranger's text: the markers are tokens that data cannot
become, so a model that quotes `<think>` from its question has quoted it and no more. Markers that
are ordinary text count only at the beginning of what the model writes, or if the prompt ends with
the first.

Some models write messages: gpt-oss may think in several, speak to the user in a commentary before
its tools, and then answer in the final one. Only that one is the answer. What goes before it is the
thought, its messages joined by an empty line, and no fault: the model was taught to write so. What
comes behind the answer is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from orca2_gen.chat.chat import Chat, Thinking
from orca2_gen.chat.encode import template_ids
from orca2_gen.chat.thinking import without_blanks
from orca2_gen.records import Completion

_TAIL_TOKENS = 64
"""Tokens at the end of a prompt in which an opened thought is looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """Generated ids, parted at the end of their thought."""

    thoughts: tuple[tuple[int, ...], ...]
    """The messages of the thought: one but for models that think in several."""
    answer: tuple[int, ...]
    is_open: bool
    """Whether the thought never ended, so that there is no answer."""


def parted(chat: Chat, prompt: Sequence[int], generated: Sequence[int]) -> Thought:
    """The thought and the answer in what a model generated behind a prompt, without the template's
    own ids around them.
    """
    ids = without_end(chat, generated)
    thinking = chat.thinking
    if thinking is None or not thinking.start:
        return Thought(thoughts=(), answer=_answer(chat, ids), is_open=False)
    heads = thinking.further or (thinking.start,)
    begun = _behind(chat, heads, ids)
    is_open = begun is not None or opens_thought(chat, prompt)
    if not is_open and _behind(chat, (chat.answering.start,), ids) is not None:
        return Thought(thoughts=(), answer=_answer(chat, ids), is_open=False)
    rest = ids if begun is None else begun
    thoughts: list[tuple[int, ...]] = []
    # Some models leave out the marker at the beginning, and only they write the one at the end.
    while (at := _find(rest, thinking.end)) >= 0:
        if _is_begun(chat, rest[at:], template_ids(chat, thinking.closing.strip())):
            break
        thoughts.append(rest[:at])
        rest = rest[at + len(thinking.end) :]
        again = _behind(chat, thinking.further, rest)
        if again is None:
            return Thought(thoughts=tuple(thoughts), answer=_answer(chat, rest), is_open=False)
        rest, is_open = again, True
    if is_open:
        closing = template_ids(chat, thinking.closing.strip())
        thoughts.append(_without_begun(chat, rest, closing))
        return Thought(thoughts=tuple(thoughts), answer=(), is_open=True)
    return Thought(thoughts=(), answer=_answer(chat, ids), is_open=False)


def _answer(chat: Chat, ids: tuple[int, ...]) -> tuple[int, ...]:
    """The ids of an answer without the template's own before and behind it."""
    begun = _behind(chat, (chat.answering.start,), ids)
    answer = ids if begun is None else begun
    end = chat.answering.end
    bare = without_blanks(chat, answer)
    if end and bare[-len(end) :] == end:
        return bare[: -len(end)]
    return _without_begun(chat, answer, end)


def _is_begun(chat: Chat, ids: tuple[int, ...], marker: tuple[int, ...]) -> bool:
    """Whether ids are the beginning of a marker and no more."""
    return len(ids) < len(marker) and marker[: len(ids)] == ids


def _without_begun(chat: Chat, ids: tuple[int, ...], marker: tuple[int, ...]) -> tuple[int, ...]:
    """Ids without the beginning of a marker at their end, where the model was cut short."""
    for size in range(min(len(ids), len(marker) - 1), 0, -1):
        begun = marker[:size]
        if ids[-size:] == begun and not chat.control_ids.isdisjoint(begun):
            return ids[:-size]
    return ids


def split_thought(chat: Chat, prompt: Sequence[int], completion: Completion) -> Completion:
    """The completion with its thought in a field of its own; the text is the answer alone."""
    thinking = chat.thinking
    if thinking is not None and not thinking.start:
        return _split_text(chat, thinking, prompt, completion)
    ids = without_end(chat, completion.token_ids)
    is_plain = chat.control_ids.isdisjoint(ids)
    if is_plain and not (thinking is not None and opens_thought(chat, prompt)):
        # The engine's text is as good.
        return dataclasses.replace(completion, text=_without_head(chat, completion.text))
    thought = parted(chat, prompt, completion.token_ids)
    if thinking is None and thought.answer == ids:
        return dataclasses.replace(completion, text=_without_head(chat, completion.text))
    shown = [_decoded(chat, ids) for ids in thought.thoughts]
    return dataclasses.replace(
        completion,
        text=_without_head(chat, _decoded(chat, thought.answer)),
        reasoning="\n\n".join(text for text in shown if text),
    )


def _without_head(chat: Chat, text: str) -> str:
    """An answer without what the template writes before it as ordinary text."""
    opening = chat.answering.opening
    if not opening or chat.answering.start:
        return text
    begun = text.lstrip()
    return begun.removeprefix(opening) if begun.startswith(opening) else text


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
    """Whether a prompt ends with the beginning of a thought, so that the model goes on thinking.

    One that stands further before, in a system text or in an earlier turn, opens none.
    """
    thinking = chat.thinking
    assert thinking is not None
    tail = tuple(prompt[-_TAIL_TOKENS:])
    if thinking.start:
        return without_blanks(chat, tail)[-len(thinking.start) :] == thinking.start
    shown: str = chat.tokenizer.decode(list(tail))
    return shown.rstrip().endswith(thinking.opening.strip())


def resumable_ids(chat: Chat, prompt: Sequence[int], generated: Sequence[int]) -> tuple[int, ...]:
    """The generated ids to go on from: the end of turn cut off, an open thought closed."""
    ids = without_end(chat, generated)
    thinking = chat.thinking
    if thinking is None:
        return ids
    closing = template_ids(chat, thinking.closing)
    if thinking.start:
        if not parted(chat, prompt, ids).is_open:
            return ids
        return (*_without_begun(chat, ids, template_ids(chat, thinking.closing.strip())), *closing)
    shown: str = chat.tokenizer.decode(list(ids))
    is_begun = shown.lstrip().startswith(thinking.opening.strip())
    is_open = (is_begun or opens_thought(chat, prompt)) and thinking.closing.strip() not in shown
    return (*ids, *closing) if is_open else ids


def has_stray_marker(chat: Chat, prompt: Sequence[int], completion: Completion) -> bool:
    """Whether a thought or answer holds a marker: a second thought, a call of a tool, a role.

    The tokenizer's further words, which are added tokens too, are no markers.
    """
    thought = parted(chat, prompt, completion.token_ids)
    return any(not chat.marker_ids.isdisjoint(ids) for ids in (*thought.thoughts, thought.answer))


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


def _behind(
    chat: Chat, markers: Sequence[tuple[int, ...]], ids: tuple[int, ...]
) -> tuple[int, ...] | None:
    """What follows one of the markers at the beginning, but for white space; None without one."""
    bare = without_blanks(chat, ids)
    begun = next((m for m in markers if m and bare[: len(m)] == m), None)
    return None if begun is None else bare[len(begun) :]


def _find(ids: Sequence[int], part: Sequence[int]) -> int:
    """The first place of `part` in `ids`; -1 if there is none."""
    size = len(part)
    places = range(len(ids) - size + 1) if size else ()
    return next((at for at in places if tuple(ids[at : at + size]) == tuple(part)), -1)
