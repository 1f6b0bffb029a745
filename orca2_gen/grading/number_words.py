"""The number that English words state, by exact value.

    one hundred and twenty-three thousand four hundred five   123405
    twelve hundred   1200        two and a half   5/2        three quarters   3/4
    half a million   500000      two dozen        24         two point five   5/2

text2num 3.1.0 was tried: it is strict, but ends below a trillion and knows no halves, thirds and
dozens, which need a grammar around it that is longer than this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_WORDS = 60
"""Words of a text that are looked at."""
_BELOW_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: number for number, word in enumerate(_BELOW_TWENTY)}
_SMALL |= {word: 10 * tens for tens, word in enumerate(_TENS, start=2)} | {"fourty": 40}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = ("third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PARTS = {word: number for number, word in enumerate(_ORDINALS, start=3)}
_PARTS |= {"half": 2, "quarter": 4, "twelfth": 12, "hundredth": 100, "thousandth": 1000}
_MANY_PARTS = {f"{word}s": number for word, number in _PARTS.items()} | {"halves": 2}
_ARTICLES = ("a", "an")
_WORD = re.compile(r"[a-z]+")
_IS_ONE = re.compile(r"\b(?:is|was|be|equals) (?:only |just )?one$")
_GAP = re.compile(r"\s{1,3}|-|,\s{1,3}")
_COUNTS = re.compile(rf"\b(?:{'|'.join((*_SMALL, 'hundred', 'dozen', *_SCALES))})\b")
_RANK = re.compile(rf"[-\s]+(?:first|second|{'|'.join(_ORDINALS)}|[a-z]+(?:teen|tie|red|sand)th)\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class WordNumber:
    """A number in words within a text."""

    value: Fraction | int
    start: int
    end: int
    """The index of the first character after its words."""


def has_number_word(text: str) -> bool:
    """Whether a word of the lower-case text counts something."""
    return _COUNTS.search(text) is not None


def number_words_at(text: str, start: int = 0) -> WordNumber | None:
    """The longest number that the lower-case text states in words from start on.

    None as well where another number word follows it (`one two`, `five thousand hundred`) or where
    it is a rank (`twenty-first`).
    """
    words, ends = _words_from(text, start)
    found = _quantity(words, 0)
    if found is None:
        return None
    value, num_words = found
    end = ends[num_words - 1]
    if num_words < len(words) and words[num_words] in (*_SMALL, "hundred", *_SCALES):
        return None
    return None if _RANK.match(text, end) else WordNumber(value=value, start=start, end=end)


def only_word_number(text: str) -> WordNumber | None:
    """The one number that a lower-case sentence states in words.

    `One` is a pronoun unless something is one.
    """
    found: WordNumber | None = None
    at = 0
    while (place := _COUNTS.search(text, at)) is not None:
        start = place.start()
        if text[:start].endswith(("half a ", "a ")) and place[0] not in _SMALL:
            start -= len("half a ") if text[:start].endswith("half a ") else len("a ")
        number = number_words_at(text, start)
        if number is None or (found is not None and found.value != number.value):
            return None
        at = number.end
        if text[start:at] != "one" or _IS_ONE.search(text, 0, at):
            found = number
    return found


def _words_from(text: str, start: int) -> tuple[list[str], list[int]]:
    words: list[str] = []
    ends: list[int] = []
    found = _WORD.match(text, start)
    while found is not None and len(words) < MAX_WORDS:
        words.append(found[0])
        ends.append(found.end())
        gap = _GAP.match(text, found.end())
        found = _WORD.match(text, gap.end()) if gap is not None else None
    return [*words, *[""] * 3], ends


def _quantity(words: list[str], at: int) -> tuple[Fraction | int, int] | None:
    """The value of the words from at on with the index after them: cardinal, part, dozens."""
    if words[at] == "half":
        if words[at + 1] not in _ARTICLES:
            return Fraction(1, 2), at + 1
        scale = 12 if words[at + 2] == "dozen" else _SCALES.get(words[at + 2])
        return (Fraction(1, 2), at + 1) if scale is None else (scale // 2, at + 3)
    if words[at] in _ARTICLES:
        if words[at + 1] == "dozen":
            return 12, at + 2
        if words[at + 1] in _PARTS:
            return Fraction(1, _PARTS[words[at + 1]]), at + 2
    found = _cardinal(words, at)
    if found is None:
        return None
    value, at = found
    if words[at] == "dozen":
        return value * 12, at + 1
    parts = _PARTS if value == 1 else _MANY_PARTS
    if value and words[at] in parts:
        return Fraction(value, parts[words[at]]), at + 1
    if words[at] == "point" and words[at + 1] in _BELOW_TWENTY[:10]:
        return _decimals(value, words, at + 1)
    if words[at] == "and" and (more := _quantity_below_one(words, at + 1)) is not None:
        part, end = more
        scale = _SCALES.get(words[end], 1)  # two and a half million
        return (value + part) * scale, end + (scale > 1)
    return value, at


def _quantity_below_one(words: list[str], at: int) -> tuple[Fraction, int] | None:
    over = 1 if words[at] in (*_ARTICLES, "one") else _SMALL.get(words[at], 0)
    under = (_PARTS if over == 1 else _MANY_PARTS).get(words[at + 1], 0)
    return (Fraction(over, under), at + 2) if 0 < over < under else None


def _decimals(value: int, words: list[str], at: int) -> tuple[Fraction, int]:
    digits = ""
    while words[at] in _BELOW_TWENTY[:10]:
        digits += str(_SMALL[words[at]])
        at += 1
    scale = _SCALES.get(words[at], 1)
    return Fraction(f"{value}.{digits}") * scale, at + (scale > 1)


def _cardinal(words: list[str], at: int) -> tuple[int, int] | None:
    total, limit, end = 0, 10**15, at
    while True:
        start = end + (total > 0 and words[end] == "and")
        group = _below_thousand(words, start)
        if group is None or (total and group[0] == 0):
            return (total, end) if end > at else None
        value, end = group
        scale = _SCALES.get(words[end], 1)
        if scale >= limit or (total and value >= 1000):
            return None
        total, limit, end = total + value * scale, scale, end + (scale > 1)
        if scale == 1:
            return total, end


def _below_thousand(words: list[str], at: int) -> tuple[int, int] | None:
    """A number below a thousand, or of hundreds up to `ninety-nine hundred`."""
    if words[at] in _ARTICLES and (words[at + 1] == "hundred" or words[at + 1] in _SCALES):
        value, at = 1, at + 1
    elif (found := _below_hundred(words, at)) is not None:
        value, at = found
    else:
        return None
    if words[at] == "hundred" and value:
        value, at = value * 100, at + 1
        rest = _below_hundred(words, at + (words[at] == "and"))
        if rest is not None and rest[0]:
            end = rest[1]
            if words[at] == "and" and (words[end] in _MANY_PARTS or words[end] in _PARTS):
                return value, at  # one hundred and two thirds
            value, at = value + rest[0], end
    return value, at


def _below_hundred(words: list[str], at: int) -> tuple[int, int] | None:
    value = _SMALL.get(words[at])
    if value is None:
        return None
    ones = _SMALL.get(words[at + 1], 0) if value >= 20 else 0
    return (value + ones, at + 2) if 0 < ones < 10 else (value, at + 1)
