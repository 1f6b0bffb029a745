"""One question of the microworld with its gold answer and a worked text for every strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["student", "teacher", "train", "test"]
"""Destination of an item: one of the two pretraining corpora or one of the two task files."""

DIRECT, STEPS, RECALL, REASON, EXTRACT, EXPLAIN = (
    "direct_answer",
    "step_by_step",
    "recall_then_generate",
    "recall_reason_generate",
    "extract_generate",
    "explain_then_answer",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A question, its gold answer, and the text that each strategy writes."""

    family: str
    key: tuple[str, ...]
    """Content of the question in any wording: two items with one key are the same problem."""
    question: str
    target: str
    completions: dict[str, str]
    """Strategy -> the whole completion, which ends with `Answer: <target>`."""
    matched: frozenset[str]
    """Strategies whose text does work that one forward pass cannot; the others only add filler."""


def build_item(
    *,
    family: str,
    key: tuple[str, ...],
    question: str,
    target: str,
    working: dict[str, str],
    filler: dict[str, str],
) -> Item:
    """The Item with these working and filler texts; a direct answer needs neither.

    No text starts with a name: byte-level tokens include their leading space, and a name must be
    the same token everywhere.
    """
    assert not set(working) & set(filler)
    texts = {DIRECT: ""} | filler | working
    return Item(
        family=family,
        key=key,
        question=question,
        target=target,
        completions={name: f"{text} Answer: {target}".lstrip() for name, text in texts.items()},
        matched=frozenset(working),
    )
