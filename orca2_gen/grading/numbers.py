"""A short piece of text -> the one number that it states, by exact value.

    $1,049.00 per week  1049      2 1/2 hours  5/2       60%        3/5, marked as a percentage
    \\frac{3}{4}         3/4       1.5e3        1500      2 million  2000000

Nothing is guessed: a text with two different numbers (`5 or 6`), a bound (`at least 5`), a time, a
date, a power or a formula without a result states no number. Values are integers or fractions,
never floats, and nothing is rounded. Units are not read: `1 hour` is 1, whatever the gold's unit.

Separators: a comma, space or apostrophe before three digits groups thousands, so `1,049` is 1049;
a comma before one or two digits is a decimal comma, so `1,5` is 3/2; a point is a decimal point,
so `1.049` is less than two, unless it comes twice or before a decimal comma (`1.234.567`,
`1.234,50`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

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
    (?<!\^[-+])
    (?P<sign>[-+]?)\s?{_CURRENCY}?\s?(?P<inner_sign>-?)
    (?:
        (?P<whole>\d{{1,6}})[ ]{{1,3}}(?P<mixed>\d{{1,9}}/\d{{1,9}})       # 2 1/2
      | (?P<over>\d{{1,{MAX_DIGITS}}})[ ]?/[ ]?(?P<under>\d{{1,{MAX_DIGITS}}})
      | (?P<decimal>
            \d{{1,3}}(?:,\d{{2,3}}){{0,60}},\d{{3}}(?:\.\d{{1,{MAX_DIGITS}}})?     # also 1,00,000
          | \d{{1,3}}(?:[ '\u2019]\d{{3}}){{1,60}}(?:\.\d{{1,{MAX_DIGITS}}})?
          | (?P<european>\d{{1,3}}(?:(?:\.\d{{3}}){{1,60}},\d{{1,2}}|(?:\.\d{{3}}){{2,60}})
          | \d{{1,6}},\d{{1,2}})(?![\d,.]\d)
          | \d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?
          | \.\d{{1,{MAX_DIGITS}}}
        )
        (?: [eE](?P<exponent>[-+]?\d{{1,3}})
          | [ ]?[x*\u00d7][ ]?10\^\{{?(?P<power>[-+]?\d{{1,3}})\}}? )?
    )
    (?![\d^]|[.,:/]\d|(?-i:[KMB])(?![A-Za-z]))
    (?:
        \s?(?P<percent>%|per\s?cent\b|percentage\spoints?\b)
      | [ ]?(?P<scale>hundred|thousand|(?:mill|bill|trill)ions?)\b
      | (?P<kilo>k)\b
    )?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_OF_WORD = {word: number for number, word in enumerate(_WORDS)}
_NUMBER_OF_WORD |= {
    f"{word}-{_WORDS[ones]}" if ones else word: 10 * tens + ones
    for tens, word in enumerate(_TENS, start=2)
    for ones in range(10)
}

_TEN_AND_ONE = re.compile(rf"\b({'|'.join(_TENS)}) ({'|'.join(_WORDS[1:10])})\b")

# Other minus and product signs and spaces, full-width digits and the fraction slash. Vulgar
# fractions get a space before them, since NFKC turns 2 and 1/2 into 21/2.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
    | {"\u2044": "/", "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4", "\u2153": " 1/3"}
    | {"\u2154": " 2/3", "\u215b": " 1/8", "\u066a": "%", "\uff05": "%"}
    | {"\u215c": " 3/8", "\u215d": " 5/8", "\u215e": " 7/8", "\u2155": " 1/5", "\u2156": " 2/5"}
    | {"\u2157": " 3/5", "\u2158": " 4/5", "\u2159": " 1/6", "\u215a": " 5/6"}
    | {"\u2150": " 1/7", "\u2151": " 1/9", "\u2152": " 1/10", "\u2189": " 0/3"}
    | dict.fromkeys("\u00b7\u22c5\u2219", "*")
)
_SUPERSCRIPT = re.compile("[\u207a\u207b]?[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+")
_BRACED_POWER = re.compile(r"\^\s?\{\s?([-+]?\d+)\s?\}")
_LATEX = re.compile(
    r"\\[dt]?frac\s?\{\s?(?P<over>-?\d+)\s?\}\s?\{\s?(?P<under>\d+)\s?\}"
    r"|\\(?:text|mathrm|mathbf|textbf)\s?\{(?P<words>[^{}]*)\}"
    r"|(?P<comma>\{,\}|,\\!)|\\(?P<sign>[$%])|\\[,;:! ]|\\[()\[\]]|~"
    r"|(?P<product>\\(?:times|cdot)(?![A-Za-z]))|(?P<degrees>\^\s?(?:\\circ(?![A-Za-z])|\{\\circ\}))"
)
_APPROXIMATELY = re.compile(
    r"(?:about|approximately|approx\.?|roughly|around|exactly|only|a total of|[=\u2248~])\s*",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"\b(?:not?|never|cannot|less|fewer|more|greater|least|most|over|under|above|below|between"
    r"|up to)\b|n't\b|[<>\u2264\u2265]",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"[;!?]|\.(?:\s|$)|,\s(?!\d)|\b(?:because|since|so|as|which|when|if|where|after|per)\b"
)
_MINUS = re.compile(r"^(?:minus|negative)\s+", re.IGNORECASE)
# A number word before one of these is only part of a number: one third, two hundred.
_PART = re.compile(
    r"(?:hal|third|quarter|fourth|fif|six|seven|eigh|nin|ten|hundred|thous|mill|bill|doz)"
)
_ASIDE = re.compile(r"\([^()]*\)")
# Text after a number that is only part of a formula, a range or a compound quantity.
_GOES_ON = re.compile(
    r"\s*(?:[-+*/^=\u00d7\u00f7x]\s*[\d(.$a-z\\\u03c0\u221a]|\*\*[-\d(]"
    r"|(?:and|or|to|out of|times)\b\s*\S)"
)
_IRRATIONAL = re.compile(r"\s*(?:\\?(?:pi|sqrt)(?![a-z])|[\u03c0\u221a])")
# Marks of a formula that no sentence around a number holds: a power, a root, a quotient, a sum or
# product, also of variables (`a` and `i` are words as well, and `e` occurs in 1e-5).
_POWER_OF_TEN = re.compile(r"[x*\u00d7]\s?10\^[-+]?\d+")
_FORMULA = re.compile(
    r"[\d)}\]]\s*(?:\^|\*\*[-\d(])|\\(?:[cdt]?frac|sqrt|pi|log|ln)(?![A-Za-z])|[\u03c0\u221a]"
    r"|(?<![A-Za-z'])[b-df-hj-z]\s*[-+*\u00d7\u00f7]\s*\d"
    r"|\d\s*[-+*\u00d7\u00f7]\s*[b-df-hj-z](?![A-Za-z'])|\d\s*[-+*x\u00d7\u00f7]\s*[\d(]"
)


def plain_mathematics(text: str) -> str:
    """The text with LaTeX markup and typographic signs made plain: 1{,}000 is 1,000."""
    if "\\" in text or "{,}" in text or "~" in text:
        text = _LATEX.sub(_undress, text)
    if not text.isascii():
        text = _SUPERSCRIPT.sub(_lower, text.translate(_PLAIN))
    return _BRACED_POWER.sub(r"^\1", text) if "^" in text else text


def _lower(found: re.Match[str]) -> str:
    return "^" + unicodedata.normalize("NFKC", found[0]).replace("\u2212", "-")


def _undress(found: re.Match[str]) -> str:
    if found["over"] is not None:
        return f" {found['over']}/{found['under']}"  # 1\frac{1}{2} is not 11/2
    if found["words"] is not None:
        return found["words"]
    if found["comma"] is not None:
        return ","
    if found["sign"] is not None:
        return found["sign"]
    if found["degrees"] is not None:
        return "\u00b0"
    return "*" if found["product"] is not None else " "


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
        text = _ASIDE.sub(" ", text).strip() or text.strip("()")
    text = _MINUS.sub("-", text)
    number = _read_leading(text)
    if number is None and "=" in text:
        number = _read_leading(text.rpartition("=")[2])
    if number is None and anywhere and "=" not in text:
        number = _read_only(text)
    return _read_word(text) if number is None else number


def _read_word(text: str) -> Number | None:
    """The number that a word states, alone or before a unit of one word."""
    sign = "-" if text[:1] == "-" else ""
    spelled = _TEN_AND_ONE.sub(r"\1-\2", text.lower().removeprefix("-").strip(" .!"))
    word, _, unit = spelled.partition(" ")
    if word not in _NUMBER_OF_WORD or " " in unit or _PART.match(unit):
        return None
    value: Fraction | int = _NUMBER_OF_WORD[word] * (-1 if sign else 1)
    if unit == "percent":
        return Number(value=Fraction(value, 100), is_percent=True, text=f"{sign}{word}%")
    return Number(value=value, is_percent=False, text=f"{sign}{word}")


def _read_leading(text: str) -> Number | None:
    text = text.lstrip()
    if about := _APPROXIMATELY.match(text):
        text = text[about.end() :]
    found = _NUMBER.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    if _GOES_ON.match(rest) or _IRRATIONAL.match(rest):
        return None
    if _NUMBER.search(_CLAUSE_END.split(rest, maxsplit=1)[0]):
        return None
    return _evaluate(found)


def _read_only(text: str) -> Number | None:
    if _BOUND.search(text) or _FORMULA.search(_POWER_OF_TEN.sub("", text)):
        return None
    places = list(_NUMBER.finditer(text))
    numbers = [_evaluate(found) for found in places]
    if any(_IRRATIONAL.match(text, found.end()) for found in places):
        return None
    if not numbers or None in numbers or len({number.value for number in numbers if number}) > 1:
        return None
    return numbers[0]


_SEPARATORS = str.maketrans("", "", ", '\u2019")


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
    if digits:
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
    if found["kilo"] is not None:
        value, written = value * 1000, written + "k"
    if (found["sign"] == "-") != (found["inner_sign"] == "-"):
        value, written = -value, "-" + written
    is_percent = found["percent"] is not None
    if is_percent:
        value, written = Fraction(value, 100), written + "%"
    return Number(value=value, is_percent=is_percent, text=written)
