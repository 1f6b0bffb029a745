"""One question of the microworld with its gold answer and a worked text for every strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["student", "teacher", "train", "test"]
"""Where an item is drawn for: one of the two pretraining corpora, or one of the two task files."""

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
    """A question, what is true, and what each strategy would write."""

    family: str
    key: tuple[str, ...]
    """What is asked whatever the wording: two items of one key are the same problem."""
    question: str
    target: str
    completions: dict[str, str]
    """Strategy -> the whole completion. Every one ends with `Answer: <target>`."""
    matched: frozenset[str]
    """Strategies whose text does work that one forward pass cannot; the others only fill."""


def build_item(
    *,
    family: str,
    key: tuple[str, ...],
    question: str,
    target: str,
    working: dict[str, str],
    filler: dict[str, str],
) -> Item:
    """The Item of these working and filler texts; direct answer needs neither.

    No text starts with a name: byte-level tokens carry their leading space, and a name must be the
    same token wherever it stands.
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
