"""Messages -> token ids: the template's segments and the data between them, each encoded apart.

    prompt ids = T0 + data(system) + T1 + data(user) + T2

T0, T1 and T2 are the template's segments, encoded once per conversation shape and cached. Data is
encoded by a tokenizer that knows no added token but white space, so no data becomes a control
token. A space at the end of a segment is encoded with the data behind it, as in the whole text:
sentencepiece makes one token of a space and the word that follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca2_gen.chat.chat import Chat, Parts, contents_of, parts_of, shape_of
from orca2_gen.chat.rows import answer_texts
from orca2_gen.chat.templates import DROPPED_REASONING, REASONING, Shape, TemplateError
from orca2_gen.records import Message

ENCODING_VERSION = 1
"""Raise it with every change that can alter an id of a conversation: part of the stage keys. What
alters only conversations of some templates is a version in rendered_texts.py."""


class ControlTokenError(ValueError):
    """The data tokenizer turned data into a control token: the row must be rejected, not sent."""


def encode_text(chat: Chat, text: str) -> list[int]:
    """Token ids of data, whatever it spells.

    Raises:
        ControlTokenError: the ids contain one that only the template may use.
    """
    ids: list[int] = chat.data_tokenizer.encode(text, add_special_tokens=False).ids
    if not chat.control_ids.isdisjoint(ids):
        found = sorted(chat.control_ids.intersection(ids))
        raise ControlTokenError(
            f"text of {len(text)} characters encodes to control token ids {found}"
        )
    return ids


def encode_prompt(chat: Chat, messages: Sequence[Message]) -> tuple[int, ...]:
    """Token ids of the messages and of the template's opening of the assistant's turn.

    Thoughts of earlier turns are there if the template keeps them.
    """
    parts = parts_of(messages)
    if REASONING in parts:
        try:
            shape = shape_of(chat, parts)
        except TemplateError:
            plain = [Message(role=m.role, content=m.content) for m in messages]
            return _joined(chat, _without_thoughts(chat, parts).texts, contents_of(plain))
        return _joined(chat, shape.texts, contents_of(messages))
    return _joined(chat, shape_of(chat, parts).texts, contents_of(messages))


def _without_thoughts(chat: Chat, parts: Parts) -> Shape:
    """The template's text around a conversation whose thoughts it leaves out."""
    try:
        given = (DROPPED_REASONING if part == REASONING else part for part in parts)
        return shape_of(chat, tuple(given))
    except TemplateError:
        return shape_of(chat, tuple(part for part in parts if part != REASONING))


def encode_conversation(chat: Chat, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
    """Token ids of a conversation through its end-of-turn token, and how many are the prompt.

    The prompt's ids equal `encode_prompt` of all but the last message: training sees what
    generation sees. The rest are those of the template's own text (rows.py).
    """
    answer = messages[-1]
    assert answer.role == "assistant"
    prompt = encode_prompt(chat, messages[:-1])
    thought = (REASONING,) if answer.reasoning else ()
    earlier = tuple(message.role for message in messages[:-1])
    texts = answer_texts(chat, (*earlier, *thought, "assistant"))
    segments: tuple[str, ...] = (texts.opening, "")
    said = [answer.content]
    if answer.reasoning:
        # White space behind a thought merges with its last word, as in the whole text.
        between = texts.between.lstrip()
        space = texts.between.removesuffix(between)
        segments = (texts.opening, between, "")
        said = [answer.reasoning + space, answer.content]
    made = _joined(chat, segments, said, is_begun=True)
    closing = template_ids(chat, texts.closing)
    ends = [position for position, token in enumerate(closing) if token in chat.end_ids]
    # A template that closes a turn without an end token would teach the model never to stop.
    ending = closing[: ends[0] + 1] if ends else (*closing, chat.end_id)
    return (*prompt, *made, *ending), len(prompt)


def template_ids(chat: Chat, text: str) -> tuple[int, ...]:
    """Token ids of a template's text that is not the first of a conversation."""
    if (False, text) not in chat.segments:
        encoded = chat.template_tokenizer.encode(text, add_special_tokens=False)
        chat.segments[False, text] = tuple(encoded.ids)
    return chat.segments[False, text]


def _first_ids(chat: Chat, text: str) -> tuple[int, ...]:
    """Token ids of the template's text that begins a conversation."""
    if (True, text) not in chat.segments:
        # Only the very start of a text gets the leading space of a sentencepiece tokenizer.
        ids = tuple(chat.tokenizer.encode(text, add_special_tokens=False))
        twice = len(ids) > 1 and ids[0] == ids[1] == chat.tokenizer.bos_token_id
        chat.segments[True, text] = ids[1:] if twice else ids
    return chat.segments[True, text]


def _joined(
    chat: Chat, texts: Sequence[str], said: Sequence[str], *, is_begun: bool = False
) -> tuple[int, ...]:
    """Token ids of a template's texts around what is said.

    `is_begun` says that something of the conversation comes before them.
    """
    first, *others = texts
    kept = first.rstrip(" ")
    ids = list(template_ids(chat, kept) if is_begun else _first_ids(chat, kept))
    space = first.removeprefix(kept)
    for content, text in zip(said, others, strict=True):
        ids += encode_text(chat, space + content)
        kept = text.rstrip(" ")
        ids += template_ids(chat, kept)
        space = text.removeprefix(kept)
    return (*ids, *template_ids(chat, space))
