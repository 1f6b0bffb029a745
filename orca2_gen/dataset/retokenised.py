"""A row's text, rendered and tokenised as other trainers do, against the row's own tokens.

A trainer renders messages into one string, the data with the template, and tokenises that. So a
text that spells `<|im_end|>` ends the turn there, and tokens merge where the template's text and
the data's meet. Our rows have neither (chat/encode.py), and only the shape `tokens` keeps that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from orca2_gen.dataset.shapes import THOUGHT
from orca2_gen.dataset.shards import messages_in, names_in
from orca2_gen.records import Message

_ROWS_AT_ONCE = 256


def rows_of_other_tokens(tokenizer: Any, batch: pa.RecordBatch) -> Iterator[str]:
    """The name of each row that a trainer's tokens differ from.

    What a template writes behind the end of the answer's turn is no difference. Templates run with
    their defaults and today's clock, as trainers run them.

    Args:
        tokenizer: transformers' tokenizer of the student, with its chat template.
        batch: rows of a shard.
    """
    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
        part = batch.slice(start, _ROWS_AT_ONCE)
        texts = [_rendered(tokenizer, messages) for messages in messages_in(part)]
        encoded = tokenizer(
            [text or "" for text in texts], add_special_tokens=False, verbose=False
        )["input_ids"]
        own = part.column("input_ids").to_pylist()
        for name, text, ids, found in zip(names_in(part), texts, own, encoded, strict=True):
            if text is None or found[: len(ids)] != ids:
                yield name


def rejected_that_spell(tokenizer: Any, batch: pa.RecordBatch) -> Iterator[str]:
    """The problem_id of each pair whose rejected side spells one of the tokenizer's own tokens.

    It is in no dataset and has no tokens of its own; a trainer would read the token there.
    """
    spelled = tuple(tokenizer.get_added_vocab())
    names = batch.column("problem_id").to_pylist()
    for name, [answer] in zip(names, batch.column("rejected").to_pylist(), strict=True):
        if any(token in text for text in answer.values() for token in spelled):
            yield name


def _rendered(tokenizer: Any, messages: tuple[Message, ...]) -> str | None:
    """The text of a conversation; None if the template refuses it."""
    turns = []
    for message in messages:
        turn = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn[THOUGHT] = message.reasoning
        turns.append(turn)
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # templates raise jinja's errors and their own, e.g. for a system message
        return None
    return text
