"""What a question asks for, as far as it decides how a number may be written."""

from __future__ import annotations

import re

_PERCENT_ASKED = re.compile(
    r"\b(?:what|which|how many|the|as an?|in)\s+(?:[a-z]+\s+){0,3}?(?:percent|percentage|%)(?!\w)",
    re.IGNORECASE,
)
# What is asked for may be a rate, which is written as a number or as a percentage.
_RATE_ASKED = re.compile(
    r"\b(?:what|which|find|determine|calculate|compute|give|estimate|how|by|at)\b"
    r"(?:[ ,]+[\w'-]+){0,5}?[ ,]+(?:rates?|probability|probabilities|chances?|likelihood|odds"
    r"|fraction|proportion|ratio|share|percentile|discount|interest|yield|margin|markup|humidity"
    r"|concentration|efficiency|per ?cent\w*)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.?!]+(?:\.(?=\d)[^.?!]*)*[.?!]?")
_HOW_MANY = re.compile(r"\bhow (?:many|old|far|long|tall|often)\b", re.IGNORECASE)


def asks_percent(question: str) -> bool:
    """Whether the question asks for a percentage, so that `60` is 60%."""
    return _PERCENT_ASKED.search(question) is not None


def asks_rate(question: str) -> bool:
    """Whether the last sentence, or one that asks, speaks of a rate and not of a count."""
    sentences = [part for part in _SENTENCE.findall(question) if part.strip()]
    asking = [part for part in sentences if part.endswith("?")] or sentences[-1:]
    return any(_RATE_ASKED.search(part) and not _HOW_MANY.search(part) for part in asking)
