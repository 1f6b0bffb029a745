"""Text -> tokens that two copies of it share, whatever their case, spaces and number formats are.

    "The  rent is $1,000.00"    the rent is $ 1000
    "\\uff34\\uff48\\uff45 rent is $1000"    the rent is $ 1000

Words, numbers and every other character but white space are tokens. Unicode's compatibility forms
(NFKC), kinds of quotes and dashes, and characters without a shape make no difference.
"""

from __future__ import annotations

import re
import unicodedata

from orca2_gen.grading.choices import LETTERS, read_yes_no
from orca2_gen.grading.numbers import parse_number
from orca2_gen.records import Problem

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Scripts without spaces between words: each character is a token."""
_TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\w)\.\d+"
    rf"|[{_IDEOGRAPHS}]|[^\W\d_{_IDEOGRAPHS}]+|\S"
)
# No-break and thin spaces group digits; a plain one may part two numbers.
_GROUPED = re.compile("(?<=[0-9])[\u00a0\u2007\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_SAME = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    }
)


def tokens(text: str) -> list[str]:
    """The tokens of a text in order, as it capitalises them; numbers in their plain form."""
    if not text.isascii():
        text = _plain(text)
    return [plain_number(each) if is_number(each) else each for each in _TOKEN.findall(text)]


def is_number(token: str) -> bool:
    """Whether a token is a number; then it has a digit first or second."""
    return token[0].isdigit() or (token[0] == "." and len(token) > 1)


def _plain(text: str) -> str:
    """The text in its compatibility form, without marks that nobody sees."""
    text = _GROUPED.sub("", text.translate(_SAME))
    text = unicodedata.normalize("NFKC", text).translate(_SAME)
    return "".join(filter(None, map(_seen, text)))


def _seen(letter: str) -> str:
    if letter.isascii():
        return letter
    kind = unicodedata.category(letter)
    if kind == "Nd":
        return str(unicodedata.decimal(letter))
    return "" if kind == "Cf" or "\ufe00" <= letter <= "\ufe0f" else letter


def plain_number(written: str) -> str:
    """A number without separators, leading zeros, and zeros after its fraction."""
    whole, point, fraction = written.replace(",", "").partition(".")
    whole = whole.lstrip("0") or "0"
    fraction = fraction.rstrip("0") if point else ""
    return f"{whole}.{fraction}" if fraction else whole


def plain_text(text: str) -> str:
    """The tokens of a text as one text, without case."""
    return " ".join(tokens(text)).casefold()


def plain_choices(problem: Problem) -> list[str]:
    """The plain texts of a problem's choices, in an order that does not depend on their letters."""
    return sorted(map(plain_text, problem.choices))


def plain_golds(problem: Problem) -> list[str]:
    """The gold answers in plain form: a choice by its text, a number by its value."""
    written = (problem.target, *problem.other_targets)
    if problem.choices:
        return sorted({plain_text(problem.choices[LETTERS.find(letter)]) for letter in written})
    return sorted({_plain_gold(gold, problem.answer_type) for gold in written})


def _plain_gold(gold: str, answer_type: str) -> str:
    if answer_type == "yes_no":
        return str(read_yes_no(gold, by_right=True))
    number = parse_number(gold) if len(gold) < 100 else None
    return plain_text(gold) if number is None else str(number.value)
