r"""The unit at the end of a quantity, taken off gold and answer alike.

    70 miles per hour    12 \text{ cm}^2    25\pi square units    $12    20^\circ\text{C}

A letter beside a number is a variable (`5s`, `3 + 2t`, `6xy`), never a unit: a unit is a word, an
abbreviation of two letters or more, or stands in \text{} or \mathrm{}. Quantities are compared by
their figures, so 12 cm and 12 m are equal; the question fixes the unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

_TOUCHES = "cm|mm|km|ft|yd|yds|lb|lbs|oz|kg|gm|mL|hr|hrs|mins|sec|secs|mph|kph|kmh|rpm|Hz|kWh|GB|TB"
"""Abbreviations that may touch their number, since few products of variables are written so."""
_SHORT = (
    f"{_TOUCHES}|dm|nm|mi|in|mg|ml|cl|cL|dl|dL|kl|kL|min|ms|mps|kHz|MHz|GHz|kW|MW|kJ|kPa|Pa|atm|mol"
    "|ppm|MB|KB|USD|EUR|GBP|sq|cu|deg|rad|pts|pcs|ways?"
)
_NO_UNIT = (
    "or|and|to|from|if|for|where|when|with|is|are|was|be|not?|none|more|less|fewer|than|at|least"
    "|most|between|mod|pi|sqrt|cbrt|abs|sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan"
    "|a?sin|atan|acos|log|ln|lg|exp|lim|max|gcd|lcm|det|cis|choose|infinity|inf|oo|real|solutions?"
    "|alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi"
    "|omega|because|since|so|which|that|AM|PM|am|pm"
    # Words that change a number: `5 million`, `3 quarters`, `5 squared`, `5 plus three`.
    "|hundreds?|thousands?|(?:m|b|tr)illions?|dozens?|squared|cubed|factorial|half|halves|thirds?"
    "|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|plus|minus"
    "|times|over|divided|multiplied|by|point|percent|union|intersect(?:ion)?|out"
)
# A word that is no abbreviation has a vowel: `xy`, `bh` and `mv` are products.
_WORD = (
    rf"(?!(?:{_NO_UNIT})\b)(?:(?:{_SHORT})(?![A-Za-z])"
    r"|(?=[A-Za-z]{0,19}[aeiouAEIOU])[A-Za-z]{3,20})\.?"
)
_RAISED = r"(?:\^\{?[23]\}?|[23](?!\d))?"
_PHRASE = (
    rf"(?:{_WORD}|per|[mgJLN](?=\s*/\s*(?:{_WORD}|[smhLK])))(?:{_RAISED})"
    rf"(?:(?:\s+|\s*/\s*)(?:(?:per|a|an|of)\s+)?(?:{_WORD}|[smhLKN]\b){_RAISED}){{0,4}}"
)
_BEFORE = r"(?<=[\d)}\]%\u00b0])"
_QUANTITY = rf"(?:{_BEFORE}|(?<=[^A-Za-z]pi)|(?<=[\d+\-*/^(][A-Za-z])|(?<=\\circ))"
_AFTER_SPACE = re.compile(rf"{_QUANTITY}(?:\s|-(?=degree)|~)+{_PHRASE}\s*$", re.ASCII | re.I)
_TOUCHING = re.compile(
    rf"{_BEFORE}(?!(?:{_NO_UNIT})\b)(?:{_TOUCHES}|[A-Za-z]{{5,20}})"
    rf"(?:{_RAISED}|/(?:{_TOUCHES}|[smhL])(?:\^2)?)\s*$"
)
_OWN_UNIT = r"\\(?:text|mathrm|mbox)\s?\{(?!\s*(?:or|and|if|for|where|[iedCxyzkn])\s*\})[^{}]*\}"
_POWER = r"(?:\s?\^\s?(?:\d|\{-?\d\}))?"
_SET_APART = re.compile(
    rf"(?<=[\w)}}\]%\u00b0.])(?:\s|\\[,;:! ]|~|\\cdot)*"
    rf"(?:{_OWN_UNIT}{_POWER}(?:\s*/\s*{_OWN_UNIT}{_POWER})?"
    rf"|\\frac\s?\{{\s*{_OWN_UNIT}{_POWER}\s*\}}\s?\{{\s*{_OWN_UNIT}{_POWER}\s*\}})\s*$"
)
_DEGREES = re.compile(r"(?<=\d)\s*\^\s?\{?\\circ\}?\s*(?:\\text\{)?(?:[CF]|Celsius|Fahrenheit)\}?$")
_ALONE = re.compile(r"(?:(?<=[\d)}])|(?<=pi))[ ~](?:m|g|s|h|L|N|J|W|V)(?:\^\{?[23]\}?)?$")
_LETTER = re.compile(r"(?<=[\d)}])\s?([A-Za-z])$")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_CURRENCY = re.compile(
    r"(?:\b(?:US|CA|AU|NZ|HK|A|C))?[$\u20ac\u00a3\u00a5\u20b9](?=\s?[\d.])|^(?:USD|EUR|GBP)\s+(?=\d)"
    r"|(?<=\d)\s?[\u20ac\u00a2\u00a3\u00a5\u20b9]$"
)


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


def unit_letters(text: str) -> set[str]:
    """The first letters of the unit that a gold names, in lower case: `5 hours` gives h."""
    unit = text.strip()[len(without_unit(text)) :]
    words = re.findall(r"[A-Za-z]+", re.sub(r"\\[A-Za-z]+", " ", unit))
    return {word[0].lower() for word in words[:1]}


def without_letter_unit(text: str, golds: Iterable[str], letters: Set[str]) -> str:
    """An answer without a unit of one letter, if no gold holds a letter.

    The letter follows a space, `12 m`, or begins the gold's own unit, one of `letters`.
    """
    if any(map(_holds_letter, golds)):
        return text  # the letter may be a variable of the gold
    if (found := _LETTER.search(text)) and found[1].lower() in letters:
        return text[: found.start()]
    return _ALONE.sub("", text)


def _holds_letter(formula: str) -> bool:
    return any(map(str.isalpha, _COMMAND.sub("", formula)))
