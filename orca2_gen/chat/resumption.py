"""The ids from which a model's answer goes on."""

from __future__ import annotations

from collections.abc import Sequence

from orca2_gen.chat.encode import Chat


def resumable_ids(chat: Chat, prompt: Sequence[int], generated: Sequence[int]) -> tuple[int, ...]:
    """The generated ids to go on from: the end of turn cut off."""
    ids = tuple(generated)
    while ids and ids[-1] in chat.end_ids:
        ids = ids[:-1]
    return ids


def num_closing_ids(chat: Chat) -> int:
    """The most ids that `resumable_ids` adds to those generated."""
    return 0
