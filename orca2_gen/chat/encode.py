"""Messages -> token ids: the template's segments and the data between them, each encoded apart.

    prompt ids = T0 + data(system) + T1 + data(user) + T2

T0, T1 and T2 are the template's segments, encoded once per conversation shape and cached. Data is
encoded by a tokenizer that knows no added token but white space, so no data becomes a control
token. A space at the end of a segment is encoded with the data behind it, as in the whole text:
sentencepiece makes one token of a space and the word that follows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from orca2_gen.chat.chat import Chat, Parts, contents_of, parts_of, shape_of
from orca2_gen.chat.rows import answer_texts
from orca2_gen.chat.templates import DROPPED_REASONING, REASONING, Shape, TemplateError
from orca2_gen.records import Message

ENCODING_VERSION = 1
"""Raise it with every change that can alter an id of a conversation: part of the stage keys. What
alters only conversations of some templates is a version in rendered_texts.py."""


TEXTS_PER_PART = 128
"""Texts that a thread encodes in one call."""


class ControlTokenError(ValueError):
    """The data tokenizer turned data into a control token: the row must be rejected, not sent."""


Encoded = tuple[tuple[int, ...], int]
"""A conversation's token ids, and how many of them are the prompt."""
Piece = tuple[int, ...] | str
"""A part of a conversation: ids of the template, or data that is still text."""


def encode_text(chat: Chat, text: str) -> list[int]:
    """Token ids of data, whatever it spells.

    Raises:
        ControlTokenError: the ids contain one that only the template may use.
    """
    ids: list[int] = chat.data_tokenizer.encode(text, add_special_tokens=False).ids
    if (error := _control_fault(chat, text, ids)) is not None:
        raise error
    return ids


def _control_fault(chat: Chat, text: str, ids: Sequence[int]) -> ControlTokenError | None:
    if chat.control_ids.isdisjoint(ids):
        return None
    found = sorted(chat.control_ids.intersection(ids))
    return ControlTokenError(f"text of {len(text)} characters encodes to control token ids {found}")


def encode_prompt(chat: Chat, messages: Sequence[Message]) -> tuple[int, ...]:
    """Token ids of the messages and of the template's opening of the assistant's turn.

    Thoughts of earlier turns are there if the template keeps them.
    """
    return _ids(chat, _prompt_pieces(chat, messages))


def _ids(chat: Chat, pieces: Sequence[Piece]) -> tuple[int, ...]:
    """The token ids of pieces, whose data is encoded."""
    encoded = (encode_text(chat, piece) if isinstance(piece, str) else piece for piece in pieces)
    return tuple(chain.from_iterable(encoded))


def _prompt_pieces(chat: Chat, messages: Sequence[Message]) -> list[Piece]:
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


def encode_conversation(chat: Chat, messages: Sequence[Message]) -> Encoded:
    """Token ids of a conversation through its end-of-turn token, and how many are the prompt.

    The prompt's ids equal `encode_prompt` of all but the last message: training sees what
    generation sees. The rest are those of the template's own text (rows.py).
    """
    prompt, answer = _conversation_pieces(chat, messages)
    ids = _ids(chat, prompt)
    return (*ids, *_ids(chat, answer)), len(ids)


def encode_conversations(
    chat: Chat, conversations: Sequence[Sequence[Message]]
) -> list[Encoded | ValueError]:
    """What `encode_conversation` gives for each, or the error that it raises.

    Equal texts are encoded once, and different ones on all cores.
    """
    planned = [_planned(chat, messages) for messages in conversations]
    pieces = chain.from_iterable(chain(*plan) for plan in planned if isinstance(plan, tuple))
    texts = list(dict.fromkeys(piece for piece in pieces if isinstance(piece, str)))
    ids = dict(zip(texts, _encoded(chat, texts), strict=True))
    faults = {text: fault for text in texts if (fault := _control_fault(chat, text, ids[text]))}
    return [
        plan if isinstance(plan, ValueError) else _looked_up(*plan, ids, faults) for plan in planned
    ]


def _encoded(chat: Chat, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text."""

    def encode(part: Sequence[str]) -> list[list[int]]:
        # The tokenizer's own threads are off, for the forks of others, and it frees Python's lock.
        made = chat.data_tokenizer.encode_batch_fast(part, add_special_tokens=False)
        return [encoding.ids for encoding in made]

    parts = [
        texts[start : start + TEXTS_PER_PART] for start in range(0, len(texts), TEXTS_PER_PART)
    ]
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        return list(chain.from_iterable(pool.map(encode, parts)))


def _planned(
    chat: Chat, messages: Sequence[Message]
) -> tuple[list[Piece], list[Piece]] | ValueError:
    try:
        return _conversation_pieces(chat, messages)
    except ValueError as error:
        return error


def _looked_up(
    prompt: Sequence[Piece],
    answer: Sequence[Piece],
    ids: Mapping[str, Sequence[int]],
    faults: Mapping[str, ControlTokenError],
) -> Encoded | ValueError:
    """A conversation whose data is encoded already."""
    joined: list[int] = []
    num_prompt_tokens = 0
    for place, piece in enumerate(chain(prompt, answer)):
        if isinstance(piece, str):
            if piece in faults:
                return faults[piece]
            joined += ids[piece]
        else:
            joined += piece
        if place == len(prompt) - 1:
            num_prompt_tokens = len(joined)
    return tuple(joined), num_prompt_tokens


def _conversation_pieces(
    chat: Chat, messages: Sequence[Message]
) -> tuple[list[Piece], list[Piece]]:
    """The pieces of the prompt, and of the answer with the end of its turn."""
    answer = messages[-1]
    assert answer.role == "assistant"
    prompt = _prompt_pieces(chat, messages[:-1])
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
    return prompt, [*made, ending]


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
) -> list[Piece]:
    """The pieces of a template's texts around what is said.

    `is_begun` says that something of the conversation comes before them.
    """
    first, *others = texts
    kept = first.rstrip(" ")
    pieces: list[Piece] = [template_ids(chat, kept) if is_begun else _first_ids(chat, kept)]
    space = first.removeprefix(kept)
    for content, text in zip(said, others, strict=True):
        pieces.append(space + content)
        kept = text.rstrip(" ")
        pieces.append(template_ids(chat, kept))
        space = text.removeprefix(kept)
    return [*pieces, template_ids(chat, space)]
