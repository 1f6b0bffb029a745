"""A short piece of text -> the one number that it states, by exact value.

    $1,049.00 per week  1049      2 1/2 hours  5/2       60%        3/5, marked as a percentage
    \\frac{3}{4}         3/4       1.5e3, 1.5K  1500      2 million  2000000
    10^3                1000      1_234_567    1234567   two hundred and five  205

Nothing is guessed: a text with two different numbers (`5 or 6`, `5; 6`), a bound (`at least 5`), a
time, a date or a formula without a result states no number. Values are integers or fractions,
never floats, and nothing is rounded. Units are not read: `1 hour` is 1, whatever the gold's unit.

Separators: a comma, space or apostrophe before three digits groups thousands, so `1,049` is 1049;
a comma before one or two digits is a decimal comma, so `1,5` is 3/2; a point is a decimal point,
so `1.049` is less than two, unless it comes twice or before a decimal comma (`1.234.567`,
`1.234,50`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from orca2_gen.grading.number_words import has_number_word, number_words_at, only_word_number
from orca2_gen.grading.plain_notation import plain_mathematics

MAX_DIGITS = 400
"""Digits in a row: longer runs are no answer, and exact arithmetic on them is slow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number as a text states it."""

    value: Fraction | int
    """Its value: 3/5 for 60%."""
    is_percent: bool
    text: str
    """The number as written, without currency, commas and unit."""

    @property
    def figure(self) -> Fraction | int:
        """The number before any percent sign: 60 for 60%, and for 60."""
        return self.value * 100 if self.is_percent else self.value


_CURRENCY = r"(?:(?:US|A|C|NZ|HK)?\$|[\u20ac\u00a3\u00a5\u20b9]|USD\s|EUR\s|GBP\s|Rs\.?\s?)"
_NUMBER = re.compile(
    rf"""
    (?<![\w.,:/^*])            # not inside a word, a decimal, a list, a time, a date, a power
    (?<!\^[-+]) (?<!_\{{)
    (?P<sign>[-+]?)\s?{_CURRENCY}?\s?(?P<inner_sign>-?)
    (?:
        (?P<whole>\d{{1,6}})[ ]{{1,3}}(?P<mixed>\d{{1,9}}/\d{{1,9}})       # 2 1/2
      | (?P<over>\d{{1,{MAX_DIGITS}}})[ ]?/[ ]?(?P<under>\d{{1,{MAX_DIGITS}}})
      | (?P<root>\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,9}})?)(?:\^|\*\*)(?P<raised>[-+]?\d{{1,3}})
      | (?P<decimal>
            \d{{1,3}}(?:,\d{{2,3}}){{0,60}},\d{{3}}(?:\.\d{{1,{MAX_DIGITS}}})?     # also 1,00,000
          | \d{{1,3}}(?:(?:[ '\u2019]\d{{3}}){{1,60}}|(?:_\d{{3}}){{1,60}})
            (?:\.\d{{1,{MAX_DIGITS}}})?
          | (?P<european>\d{{1,3}}(?:(?:\.\d{{3}}){{1,60}},\d{{1,2}}|(?:\.\d{{3}}){{2,60}})
          | \d{{1,6}},\d{{1,2}})(?![\d,.]\d)
          | \d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?
          | \.\d{{1,{MAX_DIGITS}}}
        )
        (?: [eE](?P<exponent>[-+]?\d{{1,3}})
          | [ ]?[x*\u00d7][ ]?10\^\{{?(?P<power>[-+]?\d{{1,3}})\}}? )?
    )
    (?![\d^]|[.,:/]\d|_[\d{{])
    (?:
        \s?(?P<percent>%|per\s?cent\b|percentage\spoints?\b)
      | [ ]?(?P<scale>hundred|thousand|dozen|(?:mill|bill|trill)ions?)\b
      | (?P<suffix>k|(?-i:M|B|bn|mn))\b
    )?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_SCALES = {
    "dozen": 12,
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SUFFIXES = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}

_APPROXIMATELY = re.compile(
    r"(?:about|approximately|approx\.?|roughly|around|exactly|only|a total of|[=\u2248~])\s*",
    re.IGNORECASE,
)
# A bound stands beside its number; a negation may stand anywhere before what it denies.
_BOUND = re.compile(
    r"\b(?:not?|never|cannot|neither|nor)\b|n't\b|[<>\u2264\u2265]"
    r"|\b(?:than|least|most|over|under|above|below|between|up to|equal to)\s+"
    r"(?:about |approximately |a |the )?[-+$\u20ac\u00a3]{0,2}\d"
    r"|\bor (?:more|less|fewer|greater|higher|lower|so|above|below|over|under)\b",
    re.IGNORECASE,
)
_BOUND_WORDS = (" than", " least", " most", " over", " under", " above", " below", " up to")
_PERCENT_WORD = re.compile(r"\s?(?:%|per\s?cent\b)")
_CLAUSE_END = re.compile(
    r"[;!?]|\.(?:\s|$)|,\s(?!\d)|\b(?:because|since|so|as|which|when|if|where|after|per)\b"
)
_MINUS = re.compile(r"^(?:minus|negative)\s+", re.IGNORECASE)
_ASIDE = re.compile(r"\([^()]*\)")
_HEDGE = r"(?:(?:or|and|also|maybe|perhaps|possibly|alternatively|else)\b[, ]*)"
_OTHER_ASIDE = re.compile(rf"\(\s*(?:{_HEDGE}{{1,3}}-?\$?\d|\$?\d{{1,15}}\s*\))", re.IGNORECASE)
# What separates numbers side by side: `12; 13 pears`, `12. Maybe 13`. A sentence may follow, too.
_NEXT_VALUE = re.compile(
    rf"(?:[;!?|]|\.\s|,\s)\s*{_HEDGE}{{0,3}}(?=[-+$\u20ac\u00a3]{{0,2}}\d)", re.I
)
_VALUE_ENDS = re.compile(r"(?:\s[^\W\d]{1,20}){0,2}\s?(?:[.;!?|]|\Z)")
# Text after a number that is only part of a formula, a range or a compound quantity.
_GOES_ON = re.compile(
    r"\s*(?:[-+*/^=\u00d7\u00f7x]\s*[\d(.$a-z\\\u03c0\u221a]|\*\*[-\d(]"
    r"|(?:and|or|to|out of|times)\b\s*\S)"
)
_IRRATIONAL = re.compile(r"\s*(?:\\?(?:pi|sqrt)(?![a-z])|[\u03c0\u221a])")
# Marks of a formula that no sentence around a number holds: a power, a root, a quotient, a sum or
# product, also of variables (`a` and `i` are words as well, and `e` occurs in 1e-5).
_POWER = re.compile(r"(?:[x*\u00d7]\s?)?(?<![\d.])\d+(?:\^|\*\*)[-+]?\d+")
_FORMULA = re.compile(
    r"[\d)}\]]\s*(?:\^|\*\*[-\d(])|\\(?:[cdt]?frac|sqrt|pi|log|ln)(?![A-Za-z])|[\u03c0\u221a]"
    r"|(?<![A-Za-z'])[b-df-hj-z]\s*[-+*\u00d7\u00f7]\s*\d"
    r"|\d\s*[-+*\u00d7\u00f7]\s*[b-df-hj-z](?![A-Za-z'])|\d\s*[-+*x\u00d7\u00f7]\s*[\d(]"
)


def parse_number(text: str) -> Number | None:
    """The number if the text is one and no more (currency, percent and scale allowed)."""
    text = plain_mathematics(text).strip().rstrip(".")
    if text.isdigit() and text.isascii() and len(text) <= MAX_DIGITS:
        return Number(value=int(text), is_percent=False, text=text)
    found = _NUMBER.fullmatch(text)
    return None if found is None else _evaluate(found)


def read_number(text: str, *, anywhere: bool = True) -> Number | None:
    """The number that an answer states: the one it starts with, or the one after its last `=`.

    `anywhere` also takes the only number of a sentence (`She earns 18 dollars`).
    """
    text = plain_mathematics(text).strip().strip("$").strip()
    if text.isdigit() and text.isascii() and len(text) <= MAX_DIGITS:
        return Number(value=int(text), is_percent=False, text=text)
    if "(" in text:
        if (other := _OTHER_ASIDE.search(text)) and _contradicts(text, other):
            return None
        text = _ASIDE.sub(" ", text).strip() or text.strip("()")
    text = _MINUS.sub("-", text)
    number = _read_leading(text)
    if number is None and "=" in text:
        number = _read_leading(text.rpartition("=")[2])
    if number is None and anywhere and "=" not in text:
        number = _read_only(text)
    return _read_words(text, anywhere) if number is None else number


def _contradicts(text: str, aside: re.Match[str]) -> bool:
    """Whether the number in an aside is a whole number other than the one before it."""
    before = _NUMBER.match(text[: aside.start()].rstrip())
    beside = _NUMBER.search(text, aside.start(), aside.end())
    if before is None or beside is None:
        return False
    values = [number.value for number in map(_evaluate, (before, beside)) if number]
    return len(set(values)) > 1 and all(isinstance(value, int) for value in values)


def _read_words(text: str, anywhere: bool) -> Number | None:
    """The number in words that the text starts with, before a unit, or the only one in it."""
    lowered = text.lower()
    if not has_number_word(lowered) and "half" not in lowered and lowered[:2] != "a ":
        return None
    sign = -1 if lowered[:1] == "-" else 1
    start = about.end() if (about := _APPROXIMATELY.match(lowered)) else int(sign < 0)
    found = number_words_at(lowered, start)
    if found is not None:
        unit = _CLAUSE_END.split(lowered[found.end :], maxsplit=1)[0]
        num_words = 1 if lowered[start : found.end] == "one" else 4
        if len(unit.split()) > num_words or _is_part(unit):
            return None
    elif anywhere and not _BOUND.search(lowered) and not any(map(str.isdigit, lowered)):
        found = only_word_number(lowered)
        if found is None or _is_part(lowered[found.end :]):
            return None
    if found is None or lowered[: found.start].rstrip().endswith(_BOUND_WORDS):
        return None
    rest = _PERCENT_WORD.match(lowered, found.end)
    value = Fraction(found.value, 100) if rest else found.value
    text = lowered[found.start : found.end] + ("%" if rest else "")
    return Number(value=sign * value, is_percent=rest is not None, text=text)


def _is_part(rest: str) -> bool:
    return _GOES_ON.match(rest) is not None or any(map(str.isdigit, rest)) or has_number_word(rest)


def _read_leading(text: str) -> Number | None:
    text = text.lstrip()
    if about := _APPROXIMATELY.match(text):
        text = text[about.end() :]
    found = _NUMBER.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    number = _evaluate(found)
    if not rest or number is None:
        return number
    if _GOES_ON.match(rest) or _IRRATIONAL.match(rest):
        return None
    if _NUMBER.search(_CLAUSE_END.split(rest, maxsplit=1)[0]):
        return None
    for place in _NEXT_VALUE.finditer(rest):
        other = _NUMBER.match(rest, place.end())
        value = None if other is None else _evaluate(other)
        if other and value and value.value != number.value and _VALUE_ENDS.match(rest, other.end()):
            return None
    return number


def _read_only(text: str) -> Number | None:
    if _BOUND.search(text) or _FORMULA.search(_POWER.sub("", text)):
        return None
    places = list(_NUMBER.finditer(text))
    numbers = [_evaluate(found) for found in places]
    if any(_IRRATIONAL.match(text, found.end()) for found in places):
        return None
    if not numbers or None in numbers or len({number.value for number in numbers if number}) > 1:
        return None
    return numbers[0]


_SEPARATORS = str.maketrans("", "", ", _'\u2019")


def _evaluate(found: re.Match[str]) -> Number | None:
    value: Fraction | int
    digits = (found["decimal"] or "").translate(_SEPARATORS)
    if found["european"] is not None:
        digits = found["european"].replace(".", "").replace(",", ".")
    if found["mixed"] is not None:
        over, under = map(int, found["mixed"].split("/"))
        written = f"{found['whole']} {found['mixed']}"
    elif found["over"] is not None:
        over, under = int(found["over"]), int(found["under"])
        written = f"{over}/{under}"
    else:
        over, under, written = 0, 1, digits
    if under == 0:
        return None
    if found["root"] is not None:
        power = _power_of(Fraction(found["root"]), int(found["raised"]), len(found["root"]))
        if power is None:
            return None
        value, written = power, f"{found['root']}^{found['raised']}"
    elif digits:
        value = (
            int(digits)
            if digits.isdigit()
            else Fraction(digits if digits[-1] != "." else digits[:-1])
        )
    else:
        value = Fraction(over, under) + (int(found["whole"]) if found["whole"] else 0)
    exponent = found["exponent"] or found["power"]
    if exponent is not None:
        value = value * Fraction(10) ** int(exponent)
        written = f"{written}e{exponent}"
    if found["scale"] is not None:
        value = value * _SCALES[found["scale"].lower().removesuffix("s")]
        written = f"{written} {found['scale']}"
    if found["suffix"] is not None:
        value = value * _SUFFIXES[found["suffix"].lower()]
        written += found["suffix"]
    if (found["sign"] == "-") != (found["inner_sign"] == "-"):
        value, written = -value, "-" + written
    is_percent = found["percent"] is not None
    if is_percent:
        value, written = Fraction(value, 100), written + "%"
    return Number(value=value, is_percent=is_percent, text=written)


def _power_of(root: Fraction, power: int, num_digits: int) -> Fraction | None:
    """The power, if it exists and has no more digits than a number may."""
    if num_digits * abs(power) > MAX_DIGITS or (root == 0 and power <= 0):
        return None
    return root**power
