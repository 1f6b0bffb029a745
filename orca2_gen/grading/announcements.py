"""The stretches of a completion that are announced as its answer.

The answer sentence asks for a last line `Answer: ...`. Real models vary it. Strong announcements
are `Answer:` in any dress, a box, a tag and a JSON field. `The answer is ...`, `... is the answer`
and `####` on the last line are weak: they are also said of other questions, or before a correction.
final_answers.py decides between them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from orca2_gen.grading.answers import LINE_MARK, unwrap

MAX_BOXED_CHARS, MAX_SENTENCE_CHARS = 400, 300
"""Characters after `the answer is`: it may recur, and whole lines each time are quadratic."""
MAX_JOINED_BOXES = 20
_BEFORE_CHARS = 80

# The words that announce an answer, and the text that must follow and precede them. Checking around
# plain words, from the end, takes a fifth of the time of one pattern over the whole text.
_PLAIN_WORDS = ("answer", "option", "choice")
_WORDS = (*_PLAIN_WORDS, "\\boxed", "\\fbox")
_SURELY = r"(?:therefore|thus|hence|then|indeed|clearly|simply|just|definitely|obviously|certainly)"
_AFTER = re.compile(
    rf"""
    (?P<strong> (?:[ ]is)? [*_`]{{0,3}} (?P<quote>["']?) [*_`]{{0,3}} [ ]{{0,3}} [:=\uff1a]
      | [ ]{{1,3}}[-\u2013\u2014][ ] )
  | (?P<weak> (?:,[ ]{_SURELY},)?
      (?:[ ](?P<about>(?:to|for|of|in|from|here)[ ](?:[^\W_]+[ ]){{0,6}}))? [ ]?
      (?: is | was | would[ ]be | will[ ]be | (?:must|should|has[ ]to|can[ ]only|ought[ ]to)[ ]be
        | equals | becomes | turns[ ]out[ ]to[ ]be | comes[ ]out[ ](?:to[ ]be|as) )\b
      (?:,?[ ](?:{_SURELY}|most[ ]likely|likely|probably)\b,?)? [ ]?[:\uff1a]? )
  | (?P<heading> [ \t*_]{{0,12}}(?:\n|$) )
  | (?P<tag> > )
    """,
    re.VERBOSE,
)
_TOKEN = re.compile(r"\\f?boxe?d? (-?\w{1,20})(?!\w)")
_BRACE = re.compile(r" ?\{")
# A list of what an announced answer may be called, for what is not in it (wrong, first, previous,
# the student's) is said of another answer.
_ADJECTIVE = (
    r"(?:(?:final|correct|right|best|closest|nearest|only|possible|valid|true|proper|actual|exact"
    r"|overall|ultimate|suitable|appropriate|accurate|likely|probable|plausible|reasonable|logical"
    r"|numerical|numeric|simplified|required|single|precise|fitting|short|complete|approximate"
    r"|resulting|definitive|most|very|chosen|answer)[ ])"
)
_THE = re.compile(
    r"(?:\b(?:the|my|our) |\b(?:so|thus|hence|therefore|then),? |(?:^|[.!?:;#>*])[ *_]{0,4})"
    rf"{_ADJECTIVE}{{0,4}}[*_`]{{0,3}}$",
    re.MULTILINE,
)
_OF_ANOTHER = re.compile(
    r"\b(?:another|an?|similar|previous|other|earlier|last|first|second|third|next|different|related"
    r"|that|those|most|many|some|any|part|parts)\b"
)
_OTHER_ANSWER = {"wrong", "incorrect", "false", "previous", "earlier", "initial", "first", "old"}
_OTHER_ANSWER |= {"naive", "similar", "student's", "an", "a"}
_CALLED = re.compile(r"\b(?:correct|right|best|final|chosen|selected|answer) $")
_IS_THE = re.compile(
    rf"[ ]is (?:therefore |thus |hence |indeed )?(?:the|our|my) {_ADJECTIVE}{{0,4}}$"
)
_SAID_OF = re.compile(r"[*_`]{0,3}(?=[.!\n]|$|,? (?:because|since|as)\b)")
_SUBJECT = re.compile(
    r"(?:^|[.!?:;\n]\s{0,3})(?:(?:so|thus|hence|therefore|then|clearly|i think|i believe|this means"
    r"|we see),?(?: that)?\s{1,3}){0,3}([^.!?:;\n]{1,60})$",
)
_SUPPOSED = re.compile(r"\s*(?:but |and |so )?(?:if|suppose|assuming|had) ")
_HEADING_START = re.compile(r"[ \t#*_]{0,12}(?:the )?(?:final |correct )?$")
_LIST_ITEM = re.compile(r"\s*\d+[.)] +[^\W\d]")
_LAST_LINE_MARK = "####"
_TAG_START = re.compile(r"<(?:final[_ -]?|my[_ -]?)?$")
_JOINT = re.compile(
    r"(?:[\s$.]|\\[()\[\]])*(?P<word>,|;|\band\b|\bor\b|&|\\q?quad|\\text\s?\{\s?(?:and|or)\s?\})"
    r"(?:[\s$,]|\\[()\[\]]|\band\b|\bor\b|\\q?quad)*(?:[a-z]_?\d? ?= ?)?"
)
_JSON_VALUE = re.compile(r"\s*(\[[^\]]{0,400}\]|'(?:[^'\\\n]|\\.){0,400}'|[^,}\]\n]{0,400})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of text that may be the answer."""

    text: str
    is_binding: bool
    """Whether it is a strong announcement: if unreadable, no earlier piece replaces it."""
    is_bare: bool = False
    """Whether it is read as a value alone, and not as a sentence that may hold one."""
    start: int = field(default=0, compare=False)
    """Where a correction of it may begin in the completion."""


def find_answers(text: str, *, many_lines: bool = False) -> Iterator[Piece]:
    """The pieces of text that are marked as answers, last to first.

    `many_lines` takes every line of a list below the mark and not only the first.
    """
    last_line = text[text.rfind("\n") + 1 :].lstrip() if _LAST_LINE_MARK in text else ""
    if last_line.startswith(_LAST_LINE_MARK):
        start = len(text) - len(last_line)
        yield Piece(text=unwrap(last_line.strip("# ")), is_binding=False, start=start)
    # The dotted capital I is the only letter that gets longer in lower case.
    lowered = (text if text.isascii() else text.replace("\u0130", "I")).lower()
    words = _WORDS if "\\" in lowered else _PLAIN_WORDS
    starts = {word: lowered.rfind(word) for word in words if word in lowered}
    while starts:
        word = max(starts, key=starts.__getitem__) if len(starts) > 1 else next(iter(starts))
        start = starts.pop(word)
        if word[0] == "\\":
            piece = _boxes_until(text, start)
        else:
            piece = _piece_at(text, lowered, word, start, many_lines)
        if piece is not None:
            yield piece
        # Most texts need no second place, and a search from the end is slow: it comes last.
        if (earlier := lowered.rfind(word, 0, start)) >= 0:
            starts[word] = earlier


def _piece_at(text: str, lowered: str, word: str, start: int, many_lines: bool) -> Piece | None:
    """The piece that the word at start announces, or None if it announces nothing."""
    after = start + len(word)
    left = lowered[start - 1 : start]
    if left.isalnum():
        return None
    found = _AFTER.match(lowered, after)
    kind = found.lastgroup if found is not None else None
    if found is None or kind == "heading":
        said = _piece_before(text, lowered, start, after)
        if said is not None or found is None:
            return said
    if kind == "weak":
        before = lowered[max(0, start - _BEFORE_CHARS) : start]
        about = found["about"]
        sentence = max(before.rfind(mark) for mark in (". ", "\n", "? ")) + 1
        if not _THE.search(before) or (about and _OF_ANOTHER.search(about)):
            return None
        if _SUPPOSED.match(before, sentence):
            return None  # the answer to another question
        rest = _line_after(text[: found.end() + MAX_SENTENCE_CHARS], found.end())
        return Piece(text=unwrap(rest), is_binding=False, start=found.end())
    if word != "answer":
        is_named = kind == "strong" and _CALLED.search(lowered, max(0, start - 20), start)
        rest = _line_after(text[: found.end() + MAX_SENTENCE_CHARS], found.end())
        return Piece(text=unwrap(rest), is_binding=False, start=found.end()) if is_named else None
    if left in ("_", " "):
        before = lowered[max(0, start - 20) : start - 1]
        if before.rpartition(" ")[2] in _OTHER_ANSWER:
            return None
    if kind == "tag":
        if not _TAG_START.search(lowered, max(0, start - 20), start):
            return None
        inside = text[found.end() :].partition("</")[0]
        end = found.end() + len(inside) + 1
        return Piece(text=unwrap(inside), is_binding=True, start=end)
    if found["quote"] and "{" in text[max(0, start - 4_000) : start]:
        return Piece(text=unwrap(_json_value(text, found.end())), is_binding=True, start=len(text))
    if kind == "heading":
        line_start = lowered.rfind("\n", 0, start) + 1
        if not _HEADING_START.match(lowered[line_start:start]):
            return None
    rest = (_lines_after if many_lines else _line_after)(text, found.end())
    return Piece(text=unwrap(rest), is_binding=True, start=found.end())


def _piece_before(text: str, lowered: str, start: int, after: int) -> Piece | None:
    """The subject of `... is the correct answer`, or None if the word ends no such sentence."""
    before = lowered[max(0, start - 2 * _BEFORE_CHARS) : start]
    link = _IS_THE.search(before) if "is" in before else None
    if link is None or not _SAID_OF.match(lowered, after):
        return None
    subject = _SUBJECT.search(before[: link.start()])
    if subject is None:
        return None
    first = start - len(before) + subject.start(1)
    said = text[first : first + len(subject[1])]
    return Piece(text=unwrap(said), is_binding=False, start=after)


def _boxes_until(text: str, start: int) -> Piece | None:
    """The content of the box at start, with those of the boxes joined before it by and, or, commas.

    Several boxes in one statement are one announcement: `\\boxed{2} or \\boxed{3}` is `2 or 3`.
    """
    box = _box_at(text, start)
    if box is None:
        return None
    content, end = box
    parts = [unwrap(content)]
    for _ in range(MAX_JOINED_BOXES):
        earlier = max(text.rfind("\\boxed", 0, start), text.rfind("\\fbox", 0, start))
        before = _box_at(text, earlier) if earlier >= 0 else None
        if before is None or not before[1] <= start <= before[1] + 60:
            break
        joint = _JOINT.fullmatch(text, before[1], start)
        if joint is None:
            break
        word = " or " if "or" in joint[0] else " and " if joint["word"] == "and" else ", "
        parts[:0] = [unwrap(before[0]), word]
        start = earlier
    return Piece(text="".join(parts), is_binding=True, start=end)


def _box_at(text: str, start: int) -> tuple[str, int] | None:
    """The text in the braces of the box at start, and where it ends; empty if nothing closes it."""
    brace = _BRACE.match(text, start + (6 if text.startswith("\\boxed", start) else 5))
    if brace is None:
        token = _TOKEN.match(text, start)
        return None if token is None else (token[1], token.end())
    depth, first = 1, brace.end()
    for end in range(first, min(len(text), first + MAX_BOXED_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[first:end], end + 1
    return "", first


def _json_value(text: str, start: int) -> str:
    """The value of a JSON field from start on, as text."""
    first = start + len(text[start:]) - len(text[start:].lstrip())
    if text[first : first + 1] == '"':
        try:
            return str(json.JSONDecoder(strict=False).raw_decode(text, first)[0])
        except ValueError:
            return ""
    found = _JSON_VALUE.match(text, start)
    return "" if found is None else found[1].strip(" '\t\r")


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
