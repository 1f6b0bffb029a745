"""The markers around a model's thoughts and answers.

Those of a thought are the ones that the config declares; else those that the chat template itself
writes around a thought; else a pair of the tokenizer's added tokens that is named like one, with
the white space that the template has around an empty thought; else ordinary text with which the
template's prompt ends. Markers that are tokens count by their ids alone, so no stranger's text
holds one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator

from orca2_gen.chat.chat import Answering, Chat, Thinking, shape_of
from orca2_gen.chat.encode import template_ids
from orca2_gen.chat.markers import added_tokens, remainder
from orca2_gen.chat.rows import answer_head
from orca2_gen.chat.templates import REASONING

_NAMED_LIKE_A_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_NO_THOUGHT = re.compile("effort|budget|mode|level|lang|tool", re.IGNORECASE)
"""Names of what is only about thoughts, as `<reasoning_effort>` is."""
_CLOSERS = (("START", "END"), ("start", "end"), ("begin", "end"), ("BEGIN", "END"), ("<|", "<|/"))
_KNOWN_PAIRS = (
    ("<|channel>", "thought\n", "<channel|>"),
    ("<|inner_prefix|>", "", "<|inner_suffix|>"),
)
"""Markers of Gemma 4, with a name behind the first, and of Apertus."""
_OPENED = re.compile(
    r"(<[^<>/]*(?:think|thought|reason)[^<>/]*>|\[\w*THINK\w*\])\s*$", re.IGNORECASE
)
_ANALYSIS, _COMMENTARY = "analysis", "commentary"
"""Channels of harmony that hold no answer."""


def thinking_of(chat: Chat) -> Thinking | None:
    """The Thinking of a model; None if neither config, template nor tokenizer has markers."""
    if chat.rendering.thinking:
        start, end = chat.rendering.thinking
        return _thinking(chat, f"{start}\n", f"\n{end}\n\n")
    for found in (_of_template(chat), _of_pairs(chat)):
        if found is not None and found.start:
            return found
    return _of_prompt(chat)


def answering_of(chat: Chat) -> Answering:
    """The Answering of a model whose Thinking is known."""
    prompt, row, closing = _written(chat)
    head = answer_head(chat, prompt, row)
    start, ids = _marker_ids(chat, head), template_ids(chat, closing)
    at_end = next((at for at, token in enumerate(ids) if token in chat.end_ids), len(ids))
    end = without_blanks(chat, ids[:at_end])
    return Answering(
        opening=head.lstrip() if head.strip() else "",
        start=start if _has_control(chat, start) else (),
        end=end if _has_control(chat, end) else (),
    )


def without_blanks(chat: Chat, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Ids without those at the edges that are white space."""
    while ids and _is_blank(chat, ids[0]):
        ids = ids[1:]
    while ids and _is_blank(chat, ids[-1]):
        ids = ids[:-1]
    return ids


def _is_blank(chat: Chat, token: int) -> bool:
    shown: str = chat.tokenizer.decode([token])
    return token not in chat.control_ids and not shown.strip()


def _written(chat: Chat) -> tuple[str, str, str]:
    """The template's text before an answer, in a prompt and in a row, and the text behind it."""
    with contextlib.suppress(ValueError):
        _, before, behind = shape_of(chat, ("user", "assistant")).texts
        return shape_of(chat, ("user",)).texts[-1], before, behind
    return "", "", ""


def _of_template(chat: Chat) -> Thinking | None:
    """The markers that the template writes around a thought; None if it writes none."""
    try:
        prompt = shape_of(chat, ("user",)).texts[-1]
        _, before, closing, _ = shape_of(chat, ("user", REASONING, "assistant")).texts
    except ValueError:
        return None
    if not _has_control(chat, template_ids(chat, closing)):
        return None
    opening = remainder(chat, prompt, before)
    if not _has_control(chat, template_ids(chat, opening)):
        opening = _last_marker(chat, before)  # the prompt has opened the thought already
    return _thinking(chat, opening, closing)


def _last_marker(chat: Chat, text: str) -> str:
    """The end of a text from its last marker on: one added token, or two around a name."""
    tokens = "|".join(map(re.escape, sorted(added_tokens(chat), key=len, reverse=True)))
    name = rf"\w*{_NAMED_LIKE_A_THOUGHT.pattern}\w*"
    found = re.search(rf"(?:(?:{tokens})(?i:{name}))?(?:{tokens})\s*$", text) if tokens else None
    if found is not None:
        return found[0]
    last = max(added_tokens(chat), key=text.rfind, default="")
    return text[text.rfind(last) :] if last and last in text else ""


def _of_pairs(chat: Chat) -> Thinking | None:
    """The markers of a pair of added tokens that is one around thoughts.

    A pair of which the template speaks goes before others.
    """
    source = str(chat.tokenizer.chat_template)
    pairs = sorted(_pairs(chat), key=lambda pair: pair[1] not in source)
    if not pairs:
        return None
    start, end = pairs[0]
    prompt, row, _ = _written(chat)
    empty = re.compile(rf"{re.escape(start)}(\s*){re.escape(end)}(\s*)")
    begun = re.search(rf"{re.escape(start)}(\s*)$", prompt)
    is_on_lines = start.startswith("<") and not start.startswith("<|")
    between, after = ("\n\n", "\n\n") if is_on_lines else ("", "")
    if found := empty.search(row[len(row) - len(remainder(chat, prompt, row)) :]):
        between, after = found[1], found[2]
    elif begun:
        closed = re.match(rf"\s*{re.escape(end)}(\s*)", remainder(chat, prompt, row))
        between = begun[1] * 2
        after = closed[1] if closed else between
    elif found := empty.search(prompt):
        between, after = found[1], found[2]
    elif found := re.search(rf"{re.escape(end)}(\s*)$", prompt):
        between, after = "", found[1]
    half = (len(between) + 1) // 2
    unknown = Thinking(opening=start, closing=end, ending=end, start=(), end=())
    head = answer_head(dataclasses.replace(chat, thinking=unknown), prompt, row)
    behind = after + head if head.strip() else after
    return _thinking(chat, start + between[:half], between[half:] + end + behind)


def _pairs(chat: Chat) -> Iterator[tuple[str, str]]:
    """The pairs of added tokens that stand around thoughts by their names."""
    added = added_tokens(chat)
    for start, name, end in _KNOWN_PAIRS:
        if start in added and end in added:
            yield start + name, end
    for start in added:
        if not _NAMED_LIKE_A_THOUGHT.search(start) or _NO_THOUGHT.search(start):
            continue
        ends = [f"{start[0]}/{start[1:]}"]
        ends += [start.replace(old, new) for old, new in _CLOSERS if old in start]
        yield from ((start, end) for end in ends if end in added and end != start)


def _of_prompt(chat: Chat) -> Thinking | None:
    """The markers of ordinary text of which the template's prompt ends with the first."""
    with contextlib.suppress(ValueError):
        if found := _OPENED.search(shape_of(chat, ("user",)).texts[-1]):
            start = found[1]
            return _thinking(chat, f"{start}\n", f"\n{start[0]}/{start[1:]}\n\n")
    return None


def _has_control(chat: Chat, ids: tuple[int, ...]) -> bool:
    return not chat.control_ids.isdisjoint(ids)


def _thinking(chat: Chat, opening: str, closing: str) -> Thinking:
    ending = _ending(chat, closing)
    start, end = _marker_ids(chat, opening), _marker_ids(chat, ending)
    if not (_has_control(chat, start) and _has_control(chat, end)):
        start = end = ()
    further: tuple[tuple[int, ...], ...] = ()
    if (
        start
        and ending != closing
        and _has_control(chat, _marker_ids(chat, closing[len(ending) :]))
    ):
        names = (_ANALYSIS, _COMMENTARY) if _ANALYSIS in opening else ("",)
        further = tuple(_marker_ids(chat, opening.replace(names[0], name)) for name in names)
    return Thinking(
        opening=opening, closing=closing, ending=ending, start=start, end=end, further=further
    )


def _ending(chat: Chat, closing: str) -> str:
    """What of `closing` ends the thought: it may begin the answer too, as a row without a thought
    does.
    """
    prompt, row, _ = _written(chat)
    head = remainder(chat, prompt, row).strip()
    ending = closing.rstrip().removesuffix(head) if head else closing
    return ending if _has_control(chat, template_ids(chat, ending)) else closing


def _marker_ids(chat: Chat, marker: str) -> tuple[int, ...]:
    """Ids of a marker, the white space at its edges left out but before a word."""
    ids = template_ids(chat, marker.strip())
    is_word = bool(ids) and ids[0] not in chat.control_ids
    return without_blanks(chat, template_ids(chat, marker)) if is_word else ids
