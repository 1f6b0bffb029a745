"""Choices in the shapes that people bring -> their texts, and their labels if they have any.

["wind", "moon"]                                              texts
{"text": ["wind", "moon"], "label": ["A", "B"]}               ARC, CommonsenseQA, OpenBookQA
[{"text": "wind", "label": "1"}, {"text": "moon", "label": "2"}]
{"A": "wind", "B": "moon"}                                    MedQA
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def split_labels(found: Any) -> tuple[Any, list[Any]]:
    """The texts, as far as they are a list, and the labels; no labels if there are none."""
    if isinstance(found, Mapping):
        texts, labels = found.get("text"), found.get("label")
        if isinstance(texts, list):
            return texts, labels if isinstance(labels, list) else []
        # A Parquet struct has every key, and null under those of other rows.
        kept = {name: text for name, text in found.items() if text is not None}
        return (list(kept.values()), list(kept)) if kept else (found, [])
    if isinstance(found, list) and found and all(_is_labelled(choice) for choice in found):
        return [choice["text"] for choice in found], [choice["label"] for choice in found]
    return found, []


def _is_labelled(choice: object) -> bool:
    return isinstance(choice, Mapping) and {"text", "label"} <= set(choice)
