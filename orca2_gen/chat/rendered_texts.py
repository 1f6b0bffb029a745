"""What a model's template makes of a run's conversations, as far as a stage key has to hold it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from orca2_gen.chat.chat import Chat, shape_of
from orca2_gen.chat.rendering import PLAIN
from orca2_gen.chat.rows import answer_texts
from orca2_gen.chat.templates import Shape, TemplateError

THINKING_VERSION = 1
"""Raise it with every change to how a thought is found: part of the stage keys of models that have
markers for thoughts."""
ANSWERING_VERSION = 1
"""Raise it with every change to how an answer is parted from the template's own text around it:
part of the stage keys of models without thoughts whose templates have some."""
SEAMS_VERSION = 2
"""The version of `ENCODING_VERSION` for conversations in which a seam has other ids than it had in
version 1; all others have the ids of version 1."""
TEXT_KEYS = ("sha256", "template_date", "template_arguments", "system")
"""What `rendered_texts` says of the text itself, not of how it becomes ids."""


def rendered_texts(chat: Chat, conversations: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """The digest of the template's text in conversations of these roles, and what it depends on.

    It is empty if the text is what the template alone makes of them on any day, no seam is encoded
    otherwise than in version 1 and the model has no markers for thoughts, so that a run that uses
    none of this keeps its stage keys. A conversation that the template refuses counts as refused.
    """
    shapes: dict[str, Shape | None] = {}
    for roles in sorted(set(conversations)):
        try:
            shapes[" ".join(roles)] = shape_of(chat, roles)
        except TemplateError:
            shapes[" ".join(roles)] = None
    held = [shape for shape in shapes.values() if shape is not None]
    found: dict[str, Any] = {}
    if not all(shape.is_plain for shape in held):
        texts = {roles: None if shape is None else shape.texts for roles, shape in shapes.items()}
        found["sha256"] = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
        if any(shape.shows_date for shape in held):
            found["template_date"] = chat.rendering.date
        if chat.rendering.variables:
            found["template_arguments"] = chat.rendering.variables
        if chat.rendering.system != PLAIN.system:
            found["system"] = chat.rendering.system
    known = [tuple(roles.split()) for roles, shape in shapes.items() if shape is not None]
    if chat.has_older_data or any(_has_new_seam(chat, roles) for roles in known):
        found["encoding"] = SEAMS_VERSION
    if chat.thinking is not None:
        found["thinking"] = [chat.thinking.opening, chat.thinking.closing, THINKING_VERSION]
    elif chat.answering.opening or chat.answering.end:
        found["answering"] = ANSWERING_VERSION
    return found


def _has_new_seam(chat: Chat, roles: tuple[str, ...]) -> bool:
    """Whether version 1 encoded a conversation of these roles otherwise."""
    texts = shape_of(chat, roles).texts
    if any(text.endswith(" ") for text in texts[:-1]):
        return True
    return roles[-1] == "assistant" and bool(answer_texts(chat, roles).opening)
