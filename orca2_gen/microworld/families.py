"""All task families, and the drawing of items that no other file holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from orca2_gen.microworld.closed_book import draw_codesum, draw_emblem, draw_river
from orca2_gen.microworld.item import Item, Split
from orca2_gen.microworld.open_book import draw_add, draw_compare, draw_reverse
from orca2_gen.microworld.world import World
from orca2_gen.records import AnswerType


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A kind of question."""

    draw: Callable[[World, random.Random, Split], Item]
    answer_type: AnswerType
    corpus_weight: float
    """Weight in a pretraining corpus, relative to the other families."""
    is_composed: bool = False
    """Whether its questions compose facts that the student's corpus keeps apart for files' people.

    The teacher's corpus composes them in other wordings: it shares keys with the files, never
    questions.
    """


FAMILIES: dict[str, Family] = {
    "add": Family(draw=draw_add, answer_type="numeric", corpus_weight=0.7),
    "compare": Family(draw=draw_compare, answer_type="numeric", corpus_weight=1.6),
    "reverse": Family(draw=draw_reverse, answer_type="exact", corpus_weight=1.2),
    "river": Family(draw=draw_river, answer_type="exact", corpus_weight=1.0, is_composed=True),
    "emblem": Family(draw=draw_emblem, answer_type="exact", corpus_weight=1.0, is_composed=True),
    "codesum": Family(draw=draw_codesum, answer_type="numeric", corpus_weight=0.9),
}


def item_id(item: Item) -> tuple[str, ...]:
    """The identity that no two rows share: the question if it composes facts, else the key."""
    return (item.question,) if FAMILIES[item.family].is_composed else item.key


def draw_unseen(
    family: str, world: World, rng: random.Random, split: Split, seen: Collection[tuple[str, ...]]
) -> Item:
    """An item of the family whose id is not in `seen`."""
    while True:
        item = FAMILIES[family].draw(world, rng, split)
        if item_id(item) not in seen:
            return item
