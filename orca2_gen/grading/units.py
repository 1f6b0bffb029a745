r"""The unit at the end of a quantity, taken off gold and answer alike.

    70 miles per hour    12 \text{ cm}^2    25\pi square units    $12    20^\circ\text{C}

A letter beside a number is a variable (`5s`, `3 + 2t`, `6xy`), never a unit: a unit is a word, an
abbreviation of two letters or more, or stands in \text{} or \mathrm{}. Quantities are compared by
their figures, so 12 cm and 12 m are equal; the question fixes the unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SHORT = (
    "cm|mm|km|dm|nm|um|mi|ft|yd|yds|lb|lbs|oz|kg|mg|gm|ml|mL|cl|cL|dl|dL|kl|kL|hr|hrs|min|mins|sec"
    "|secs|ms|mph|kph|kmh|mps|rpm|Hz|kHz|MHz|GHz|kW|MW|kWh|kJ|kPa|Pa|atm|mol|ppm|GB|MB|KB|TB|USD"
    "|EUR|GBP|sq|cu|deg|rad|pts|pcs"
)
"""Abbreviations that may touch their number, since no product of variables is written like them."""
_NO_UNIT = (
    "or|and|to|from|if|for|where|when|with|is|are|was|be|not?|none|more|less|fewer|than|at|least"
    "|most|between|mod|pi|sqrt|cbrt|abs|sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan"
    "|log|ln|lg|exp|lim|max|gcd|lcm|det|infinity|inf|oo|real|solutions?|theta|alpha|beta|gamma"
    "|delta|lambda|phi|omega|because|since|so|which|that|AM|PM|am|pm"
)
_WORD = rf"(?!(?:{_NO_UNIT})\b)[A-Za-z]{{2,20}}\.?"
_PHRASE = (
    rf"(?:{_WORD}|per|[mgJLN](?=\s*/\s*(?:{_WORD}|[smhLK])))(?:\^\{{?[23]\}}?)?"
    rf"(?:(?:\s+|\s*/\s*)(?:(?:per|a|an|of)\s+)?(?:{_WORD}|[smhLKN])(?:\^\{{?[23]\}}?)?){{0,4}}"
)
_BEFORE = r"(?<=[\d)}\]%\u00b0])"
_QUANTITY = rf"(?:{_BEFORE}|(?<=[^A-Za-z]pi)|(?<=[\d+\-*/^(][A-Za-z]))"
_AFTER_SPACE = re.compile(rf"{_QUANTITY}(?:\s|\\[,;: ]|~)+{_PHRASE}\s*$", re.ASCII)
_TOUCHING = re.compile(
    rf"{_BEFORE}(?:{_SHORT}|[A-Za-z]{{5,20}})(?:\^\{{?[23]\}}?|/(?:{_SHORT}|[smhL])(?:\^2)?)?\s*$"
)
_OWN_UNIT = r"\\(?:text|mathrm|mbox)\s?\{(?!\s*(?:or|and|if|for|where|[iedCxyzkn])\s*\})[^{}]*\}"
_POWER = r"(?:\s?\^\s?(?:\d|\{-?\d\}))?"
_SET_APART = re.compile(
    rf"(?<=[\w)}}\]%\u00b0.])(?:\s|\\[,;:! ]|~|\\cdot)*"
    rf"(?:{_OWN_UNIT}{_POWER}(?:\s*/\s*{_OWN_UNIT}{_POWER})?"
    rf"|\\frac\s?\{{\s*{_OWN_UNIT}{_POWER}\s*\}}\s?\{{\s*{_OWN_UNIT}{_POWER}\s*\}})\s*$"
)
_DEGREES = re.compile(r"(?<=\d)\s*(?:\^\s?\{?\\circ\}?|\u00b0)\s*(?:\\(?:text|mathrm)\{)?[CF]\}?$")
_ALONE = re.compile(r"(?<=\d)[ ~](?:m|g|s|h|L|N|J|W|V)(?:\^\{?[23]\}?)?$")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_CURRENCY = re.compile(r"[\u20ac\u00a3\u00a5\u20b9](?=\s?[\d.])")


def without_unit(text: str) -> str:
    """The quantity without its unit and its currency's sign; any other text as it is."""
    text = _CURRENCY.sub("", text).strip()
    for _ in range(2):  # `12 \text{ square} cm`
        shorter = text
        for pattern in (_SET_APART, _DEGREES, _TOUCHING, _AFTER_SPACE):
            shorter = pattern.sub("", shorter, count=1).rstrip()
        if shorter == text or not any(map(str.isalnum, shorter)):
            break
        text = shorter
    return text


def without_letter_unit(text: str, golds: Iterable[str]) -> str:
    """An answer without a unit of one letter after a space, `12 m`, if no gold holds a letter."""
    if any(map(_holds_letter, golds)):
        return text  # the letter may be a variable of the gold
    return _ALONE.sub("", text)


def _holds_letter(formula: str) -> bool:
    return any(map(str.isalpha, _COMMAND.sub("", formula)))
