"""The answer sentence under a question, and the pattern that finds the answer in a completion.

The sentence asks for a last line `Answer: ...`. Real models vary it, so the reader also takes bold,
headings, \\boxed{}, `<answer>`, `####` on the last line and "The answer is ...". The last answer
counts. A text of one short line without any of these is a bare answer.

A summary has no sentence: its whole text is the answer.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
MAX_BARE_CHARS, MAX_BOXED_CHARS, MAX_SENTENCE_CHARS = 200, 400, 300
"""Characters after `the answer is`: it may recur, and whole lines each time are quadratic."""

# The words that announce an answer, and the text that must follow and precede them. Checking around
# plain words, from the end, takes a fifth of the time of one pattern over the whole text.
_WORDS = ("answer", "\\boxed", "\\fbox", "option", "choice")
_AFTER = re.compile(
    r"""
    (?P<strong> (?:[ ]is)? [*_`]{0,3} [ ]{0,3} [:=] | [ ]{1,3}[-\u2013\u2014][ ] )
  | (?P<weak> (?:[ ]to[ ](?:[^\W_]+[ ]){1,5})? [ ]?(?:is|was|would[ ]be)\b [ ]?:? )
  | (?P<heading> [ \t*_]{0,12}(?:\n|$) )
  | (?P<tag> > )
    """,
    re.VERBOSE,
)
_LIST_ITEM = re.compile(r"\s*\d+[.)] +[^\W\d]")
LINE_MARK = re.compile(r"\s*(?:\(?(?:\d{1,3}[.):]|[a-z]\))|[-*\u2022])\s+")
"""The number, letter or bullet that starts a line of a list."""
_BRACE = re.compile(r" ?\{")
_THE = re.compile(r"\b(?:the|my|our) (?:final |correct |right |best )?$")
_HEADING_START = re.compile(r"[ \t#*_]{0,12}(?:the )?(?:final |correct )?$")
_LAST_LINE_MARK = "####"
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|boxed)\s?\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]|\$(.*)\$|<(.*)>"
    r"|\"(.*)\"|'(.*)'|\u201c(.*)\u201d|\u2018(.*)\u2019",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of text that may be the answer."""

    text: str
    is_binding: bool
    """Whether it is announced as the answer: if unreadable, no earlier piece replaces it."""
    is_bare: bool = False


def find_answers(text: str, *, many_lines: bool = False) -> Iterator[Piece]:
    """The pieces of text that are marked as answers, last to first.

    `many_lines` takes every line of a list below the mark and not only the first.
    """
    last_line = text[text.rfind("\n") + 1 :].lstrip()
    if last_line.startswith(_LAST_LINE_MARK):
        yield Piece(text=unwrap(last_line.strip("# ")), is_binding=False)
    # The dotted capital I is the only letter that gets longer in lower case.
    lowered = text.replace("\u0130", "I").lower()
    starts = {word: lowered.rfind(word) for word in _WORDS if word in lowered}
    while starts:
        word = max(starts, key=starts.__getitem__)
        start = starts.pop(word)
        if (earlier := lowered.rfind(word, 0, start)) >= 0:
            starts[word] = earlier
        piece = _piece_at(text, lowered, word, start, many_lines)
        if piece is not None:
            yield piece


def _piece_at(text: str, lowered: str, word: str, start: int, many_lines: bool) -> Piece | None:
    """The piece that the word at start announces, or None if it announces nothing."""
    after = start + len(word)
    if word[0] == "\\":
        brace = _BRACE.match(lowered, after)
        if brace is None:
            return None
        return Piece(text=unwrap(_inside_braces(text, brace.end())), is_binding=True)
    found = _AFTER.match(lowered, after)
    if found is None or lowered[start - 1 : start].isalnum():
        return None
    before = lowered[max(0, start - 20) : start]
    if found["weak"] is not None:
        if not _THE.search(before):
            return None
        rest = _line_after(text[: found.end() + MAX_SENTENCE_CHARS], found.end())
        return Piece(text=unwrap(rest), is_binding=False)
    if word != "answer" or before.endswith(("wrong ", "incorrect ")):
        return None
    if found["tag"] is not None:
        if before[-1:] != "<":
            return None
        return Piece(text=unwrap(text[found.end() :].partition("</")[0]), is_binding=True)
    line_start = lowered.rfind("\n", 0, start) + 1
    if found["heading"] is not None and not _HEADING_START.match(lowered[line_start:start]):
        return None
    rest = (_lines_after if many_lines else _line_after)(text, found.end())
    return Piece(text=unwrap(rest), is_binding=True)


def _inside_braces(text: str, start: int) -> str:
    """The text between the brace just before start and its partner; empty without a partner."""
    depth = 1
    for end in range(start, min(len(text), start + MAX_BOXED_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return ""


def _line_after(text: str, start: int) -> str:
    """The rest of the line, or the next line with text if the rest has none."""
    for num_passed in range(4):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)].partition("</answer>")[0]
        if end < 0 or any(map(str.isalnum, line)):
            return "" if num_passed and _LIST_ITEM.match(line) else line
        if line.strip(" \t*`:$[]\\"):
            return line
        start = end + 1
    return ""


def _lines_after(text: str, start: int) -> str:
    """The rest of the line with the marked lines below it, or if empty the lines up to a blank."""
    first, *below = text[start:].partition("</answer>")[0].split("\n")
    if any(map(str.isalnum, first)):
        is_next = LINE_MARK.match if LINE_MARK.match(first) else _never
        return "\n".join((first, *itertools.takewhile(is_next, below)))
    lines = itertools.dropwhile(lambda line: not any(map(str.isalnum, line)), below)
    return "\n".join(itertools.takewhile(str.strip, lines))


def _never(line: str) -> bool:
    return False


def unwrap(text: str) -> str:
    """The text without emphasis, quotes and LaTeX delimiters around all of it."""
    for _ in range(5):
        text = text.strip(" \t\r\n*`")
        found = _WRAPPED.fullmatch(text.rstrip(".")) if text[:1] in "\\$<\"'\u201c\u2018" else None
        if found is None:
            break
        inside = next(group for group in found.groups() if group is not None)
        if "$" in inside.strip("$") or _closes_early(inside):
            break  # two formulas, not one: $1$ or $2$
        text = inside
    return text


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


def quasi_normalise(text: str) -> str:
    """The normalised text without a leading article and the punctuation after letters.

    So `the U.S.A.` is `usa`, and `jack-o-lantern` is `jack o lantern`. Signs, decimal points and
    other marks beside a digit or a symbol stay: -5, 1.10, C++, A-.
    """
    text = _DROPPED_MARKS.sub(
        lambda found: "" if _SPACED_MARKS.isdisjoint(found[0]) else " ", normalise(text)
    )
    return _ARTICLE.sub("", " ".join(text.split()), count=1)


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
