"""The answer sentence under a question, and the forms in which an answer's text is compared.

A summary has no sentence: its whole text is the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from orca2_gen.records import AnswerType

_ASK = 'Close with one line that says "Answer:" and then only '
ANSWER_SENTENCES: Mapping[AnswerType, str] = MappingProxyType(
    {
        "exact": _ASK + "the answer, in few words.",
        "numeric": _ASK + "the number.",
        "multiple_choice": _ASK + "the letter.",
        "yes_no": _ASK + "yes or no.",
        "list": _ASK + "the items in order, separated by commas.",
        "span": _ASK + "the answer, in few words.",
        "mathematics": _ASK + "the result, as a formula.",
    }
)

TAIL_CHARS = 4_000
"""Characters at a completion's end that are searched for its answer."""
MAX_BARE_CHARS = 200
"""Characters of a completion that is a bare answer, beyond those of the longest gold answer."""
LINE_MARK = re.compile(r"\s*(?:\(?(?:\d{1,3}[.):]|[a-z]\))|[-*\u2022])\s+")
"""The number, letter or bullet that starts a line of a list."""
_OPENERS = "\\$<\"'\u201c\u2018"
# Bold, italics and code between the ends of words: not the stars of 2**3 or x * y.
_EMPHASIS = re.compile(
    r"(?<![\w)\]}*\\])(?:\*{2,3}([^\s*][^*\n]{0,300})(?<!\s)\*{2,3}|__([^\s_][^_\n]{0,300})(?<!\s)__)"
    r"(?![\w(*_])|\A\*([^\s*][^*\n]{0,300})(?<!\s)\*(?=\W?\Z)"
    r"|(?<![\w`])`([^`\n]{1,300})`(?![\w`])"
)
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|boxed)\s?\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]|\$(.*)\$|<(.*)>"
    r"|\"(.*)\"|'(.*)'|\u201c(.*)\u201d|\u2018(.*)\u2019",
    re.DOTALL,
)


def unwrap(text: str) -> str:
    """The text without emphasis, quotes and LaTeX delimiters around all of it."""
    inside = text.strip(" \t\r\n*`")
    if inside.isalnum():
        return inside
    if "*" in inside or "`" in inside or "__" in inside:
        text = _EMPHASIS.sub(_emphasised, text)
    elif inside and inside[0] not in _OPENERS:
        return inside
    for _ in range(5):
        text = text.strip(" \t\r\n*`")
        found = _WRAPPED.fullmatch(text.rstrip(".")) if text[:1] in _OPENERS else None
        if found is None:
            break
        inside = next(group for group in found.groups() if group is not None)
        if "$" in inside.strip("$") or _closes_early(inside):
            break  # two formulas, not one: $1$ or $2$
        text = inside
    return text


def _emphasised(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def _closes_early(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"[{}]|\\[)\]]", text):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            return True
    return False


_QUOTES = " \"'\u2018\u2019\u201c\u201d*`"


def normalise(text: str) -> str:
    """The text as exact matching sees it: NFKC, no case, one space, no end punctuation."""
    text = unwrap(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.casefold().split())
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".,;:!?\u2026\u3002") or text


# The, a, an; an `a` before a single letter may be a letter of the answer itself.
_ARTICLE = re.compile(r"\A(?:the|an?(?=\s+\w\w))\s+(?=\S)")
_DROPPED_MARKS = re.compile(r"(?<=[^\W\d_])(?:[.'\u2019,;:!?]|-(?=\w))+")
_SPACED_MARKS = frozenset(",;:!?-")
_SET_WORDS = re.compile(r"\\(?:text|textrm|textnormal|textbf|mathrm|mbox)\s?\{([^{}]*)\}")
_TIME_OF_DAY = re.compile(r"\b0?(\d{1,2})(?::00|(:\d\d))? ?([ap]) ?m$")


def quasi_normalise(text: str) -> str:
    """The normalised text without a leading article and the punctuation after letters.

    So `the U.S.A.` is `usa`, and `jack-o-lantern` is `jack o lantern`. Signs, decimal points and
    other marks beside a digit or a symbol stay: -5, 1.10, C++, A-. Words set apart in LaTeX are
    words, and `9:00pm` is `9 pm`.
    """
    text = _SET_WORDS.sub(r"\1", text.replace("{:}", ":")) if "\\" in text or "{" in text else text
    text = _DROPPED_MARKS.sub(
        lambda found: "" if _SPACED_MARKS.isdisjoint(found[0]) else " ", normalise(text)
    )
    text = " ".join(text.split())
    text = _TIME_OF_DAY.sub(r"\1\2 \3m", text) if text[-1:] == "m" else text
    return _ARTICLE.sub("", text, count=1)


_NEXT_MARK = re.compile(r"[,;]?\s+(?=\(?(?:\d{1,2}[.)]|[a-z]\))\s)")
_ARROW = re.compile(r"[-=]?>|[<|\u2192]")
_COMMA = re.compile(r",(?!\d{3}(?!\d))(?:\s*(?:and|then)\b)?")  # not the one in 1,000
_AND = re.compile(r"\s+(?:and|&)\s+")
_LAST_RESORTS = (re.compile(","), re.compile(r"\s+"))


def split_items(text: str, num_items: int = 0) -> tuple[str, ...]:
    """The items of a list: its lines, or the parts between semicolons, arrows or commas.

    An `and` in the last item counts as a comma. Numbers and bullets before the items are dropped.
    If fewer than `num_items` result, commas without spaces and spaces separate items too.
    """
    text = text.strip()
    if text[:1] in tuple("[({") and text[-1:] in tuple("])}"):
        text = text[1:-1]
    items = [text]
    if "\n" in text:
        items = text.split("\n")
    elif LINE_MARK.match(text):
        items = _NEXT_MARK.split(text)
    if len(items) == 1:
        items = text.split(";") if ";" in text else _ARROW.split(text)
    if len(items) == 1:
        items = _COMMA.split(text)
        if not 0 < num_items <= len(items):
            items[-1:] = _AND.split(items[-1])
    items = list(filter(str.strip, items))
    if len(items) < num_items:
        for separator in _LAST_RESORTS:
            again = list(filter(str.strip, separator.split(text)))
            items = again if len(again) == num_items else items
    return tuple(unwrap(LINE_MARK.sub("", item, count=1)) for item in items)
