"""What people and strangers may say to a model, and what transformers makes of it."""

from __future__ import annotations

import dataclasses
import datetime
import unicodedata
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from orca2_gen.chat import Chat, encode_conversation, encode_prompt
from orca2_gen.records import Message
from tests.chat.collection import markers
from tests.chat.published_shape import PublishedShape

ODDITIES = (
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u2581",
    "\u2581<s>\u2581",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u202e",
    "\u2028",
    "e\u0301",
    "\u0338",
    "\uff1c\uff5cim_start\uff5c\uff1e",
    "\ufe64s\ufe65",
    "\U0001f469\u200d\U0001f52c",
    "{{ 7*7 }}",
    "{% endfor %}",
    "zqPLACEHOLDERqz0zqENDqz",
)
MARKERS = markers()
halves = st.sampled_from([text for text in MARKERS if len(text) > 1]).flatmap(
    lambda text: st.integers(1, len(text) - 1).flatmap(
        lambda cut: st.sampled_from([text[:cut], text[cut:]])
    )
)
letters = st.characters(codec="utf-8", exclude_categories=["Cn", "Cs"])
strangers = st.lists(
    st.one_of(st.sampled_from(MARKERS), st.sampled_from(ODDITIES), halves, st.text(letters)),
    max_size=6,
).map("".join)
"""Text of a stranger: markers of all models, halves of them, odd characters, anything."""
# Templates trim their texts, some tokenizers compose characters, and none means U+2581 as text.
prose = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Cs", "Cc"]), min_size=1)
    .map(lambda text: unicodedata.normalize("NFKC", text).replace("\u2581", "_").strip())
    .filter(lambda text: text and not any(marker in text for marker in MARKERS))
)
words = st.lists(st.text("abcdefghij0123", min_size=1, max_size=6), min_size=1).map(" ".join)


def conversation(*texts: str, system: str | None = "Be careful.") -> tuple[Message, ...]:
    """User and assistant say these texts in turn, after the system message."""
    told = () if system is None else (Message(role="system", content=system),)
    said = [
        Message(role="user" if index % 2 == 0 else "assistant", content=text)
        for index, text in enumerate(texts)
    ]
    return (*told, *said)


def with_thought(messages: Sequence[Message], thought: str) -> tuple[Message, ...]:
    """The messages, the last of which has this thought."""
    return (*messages[:-1], dataclasses.replace(messages[-1], reasoning=thought))


def ids_of(chat: Chat, messages: Sequence[Message]) -> tuple[int, ...]:
    if messages[-1].role == "assistant":
        return encode_conversation(chat, messages)[0]
    return encode_prompt(chat, messages)


def control(chat: Chat, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if token in chat.control_ids]


def rendered(chat: Chat, messages: Sequence[Message], **variables: Any) -> str:
    """What transformers itself renders of these messages, folded as the Chat folds them."""
    turns = [_turn(chat, message) for message in messages]
    if chat.rendering.system == "fold" and turns[0]["role"] == "system":
        told, asked, *others = turns
        turns = [{"role": "user", "content": f"{told['content']}\n\n{asked['content']}"}, *others]
    midnight = datetime.datetime.fromisoformat(chat.rendering.date)
    text: str = chat.tokenizer.apply_chat_template(
        turns,
        tokenize=False,
        add_generation_prompt=messages[-1].role != "assistant",
        **{"strftime_now": midnight.strftime, **chat.rendering.variables, **variables},
    )
    return text


def _turn(chat: Chat, message: Message) -> dict[str, Any]:
    """A message as transformers takes it, the thought wherever the template looks for it."""
    content, thought = message.content, message.reasoning
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if not thought:
        return turn
    source = str(chat.tokenizer.chat_template)
    if "chunk.thinking" in source:
        chunks = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": content}]
        return turn | {"content": chunks}
    if "content.blocks" in source:
        blocks = [{"type": "thoughts", "text": thought}, {"type": "response", "text": content}]
        return turn | {"content": {"blocks": blocks}}
    return turn | {"reasoning_content": thought, "thinking": thought, "reasoning": thought}


def decoded(shape: PublishedShape, chat: Chat, ids: Sequence[int]) -> str:
    text: str = chat.tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    # A tokenizer with a Prepend normalizer writes a space behind its BOS, as transformers' does.
    return text.replace(f"{shape.bos} ", shape.bos, 1) if shape.bos else text


def as_ids_say(shape: PublishedShape, chat: Chat, text: str) -> str:
    """A rendered text without what no id of it stands for."""
    if not shape.strips_after:
        return text
    for token in chat.tokenizer.added_tokens_decoder.values():
        if token.rstrip:
            text = (token.content).join(part.lstrip() for part in text.split(token.content))
    return text
