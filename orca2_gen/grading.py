"""The answer sentence, the pattern that reads it, and one grader per answer type.

The sentence goes under the question and asks for a last line `Answer: ...`. Real models dress it
up, so the reader also takes bold, headings, \\boxed{}, `<answer>`, `####` on the last line and "The
answer is ...". The last answer counts. A text of one short line without any is a bare answer.

Two rules that are choices:
- A percent sign is a hundredth. `60%` is 0.6, not 60, unless the gold has a percent sign or the
  question asks for a percentage; then `60` and `60%` are both right.
- What cannot be read as an answer of the type (`Answer: unknown` where a number is due, two
  letters, a letter beside another option's text) is unparsed, not incorrect: both score 0, but
  unparsed counts as a cell that was not really judged (selection.py).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orca2_gen.numerals import parse_number, read_number
from orca2_gen.records import AnswerType, Outcome, Problem

GRADER_VERSION = 1
"""Raise it with every change that can change a verdict: it is part of the stage keys."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

ANSWER_SENTENCES: Mapping[AnswerType, str] = MappingProxyType(
    {
        "exact": 'Close with one line that says "Answer:" and then only the answer, in few words.',
        "numeric": 'Close with one line that says "Answer:" and then only the number.',
        "multiple_choice": 'Close with one line that says "Answer:" and then only the letter.',
    }
)

TAIL_CHARS = 4_000
"""Only so much of a completion's end is searched for its answer."""
MAX_BARE_CHARS, MAX_BOXED_CHARS, MAX_SENTENCE_CHARS = 200, 400, 300
"""Of what follows `the answer is`: that may recur, and whole lines each time are quadratic."""

# The words that announce an answer, and what must stand after and before them. Looking around plain
# words, from the end, takes a fifth of the time of one pattern over the whole text.
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
_BRACE = re.compile(r" ?\{")
_THE = re.compile(r"\b(?:the|my|our) (?:final |correct |right |best )?$")
_HEADING_START = re.compile(r"[ \t#*_]{0,12}(?:the )?(?:final |correct )?$")
_LAST_LINE_MARK = "####"
_PERCENT_ASKED = re.compile(
    r"\b(?:what|which|how many|the|as an?|in)\s+(?:[a-z]+\s+){0,3}?(?:percent|percentage|%)(?!\w)",
    re.IGNORECASE,
)
_WRAPPED = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|boxed)\s?\{(.*)\}|\\\((.*)\\\)|\\\[(.*)\\\]|\$(.*)\$|<(.*)>"
    r"|\"(.*)\"|'(.*)'|\u201c(.*)\u201d|\u2018(.*)\u2019",
    re.DOTALL,
)
_LETTER = re.compile(
    r"(?:(?:option|choice|letter)[\s:]*)?[(\[{<]?\s*(?P<letter>[A-Z])"
    r"(?P<mark>(?:\s*[)\]}>])?[.:,;)!?]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_MORE_LETTERS = re.compile(
    r"\s*(?:and|or|&|/|,|\+)?\s*[(\[]?[A-Z][)\].]?(?:\s|$|,)|\s*(?:and|or|&|/)\b"
)
# The option's text where it stands beside its letter: `- Paris`, `(Paris)`.
_BESIDE = re.compile(r"[-:\u2013\u2014 ]*(?:\((.*)\)|(.*))", re.DOTALL)
_REASON_FOLLOWS = re.compile(r"\s+(?:because|since|as|is)\b|\s*[,;:\u2013\u2014]\s|\s+-\s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """The verdict on one completion."""

    outcome: Outcome
    score: float
    """1.0 iff outcome is correct."""
    answer: str
    """What was read: the number, the letter or the text; empty where nothing was."""


def render_choices(choices: Sequence[str]) -> str:
    """Returns the options as lines `A) text`."""
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))


def grade(problem: Problem, text: str, finish_reason: str) -> Grade:
    """Returns the verdict on a completion of the problem; it raises on no text.

    A completion that did not stop by itself is truncated: a thought cut short is not a wrong
    answer. A problem whose answer type or gold cannot be graded is ungraded.
    """
    if finish_reason != "stop":
        return Grade(outcome="truncated", score=0.0, answer="")
    grader = _GRADERS.get(problem.answer_type)
    if grader is None or (grader is _grade_numeric and _gold_number(problem.target) is None):
        return Grade(outcome="ungraded", score=0.0, answer="")
    verdict = _grade_last_answer(grader, problem, text)
    if verdict is None:
        return Grade(outcome="unparsed", score=0.0, answer="")
    answer, is_correct = verdict
    outcome: Outcome = "correct" if is_correct else "incorrect"
    return Grade(outcome=outcome, score=float(is_correct), answer=answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of text that may be the answer."""

    text: str
    is_binding: bool
    """It was announced as the answer: if it cannot be read, no earlier piece is taken instead."""
    is_bare: bool = False


Verdict = tuple[str, bool]
"""The answer that was read, and whether it is the gold one."""
Grader = Callable[[Problem, Piece], Verdict | None]


def _grade_last_answer(grader: Grader, problem: Problem, text: str) -> Verdict | None:
    text = text.rstrip()[-(TAIL_CHARS + len(problem.target)) :].rpartition("</think>")[2]
    verdict, is_bare = None, True
    for piece in find_answers(text):
        is_bare = False
        if not piece.text:
            continue
        if piece.is_binding:
            # Any sentence reads as a free text, so there an announced answer outranks it.
            verdict = None if problem.answer_type == "exact" else verdict
            return verdict or grader(problem, piece)
        verdict = verdict or grader(problem, piece)
    line = text.strip()
    if is_bare and line and "\n" not in line and len(line) <= MAX_BARE_CHARS + len(problem.target):
        return grader(problem, Piece(text=unwrap(line), is_binding=True, is_bare=True))
    return verdict


def find_answers(text: str) -> Iterator[Piece]:
    """Yields the pieces of text that are marked as answers, last to first."""
    last_line = text[text.rfind("\n") + 1 :].lstrip()
    if last_line.startswith(_LAST_LINE_MARK):
        yield Piece(text=unwrap(last_line.strip("# ")), is_binding=False)
    # The dotted capital I is the one letter that gets longer in lower case.
    lowered = text.replace("\u0130", "I").lower()
    starts = {word: lowered.rfind(word) for word in _WORDS if word in lowered}
    while starts:
        word = max(starts, key=starts.__getitem__)
        start = starts.pop(word)
        if (earlier := lowered.rfind(word, 0, start)) >= 0:
            starts[word] = earlier
        piece = _piece_at(text, lowered, word, start)
        if piece is not None:
            yield piece


def _piece_at(text: str, lowered: str, word: str, start: int) -> Piece | None:
    """Returns what the word at start announces, or None where it only happens to stand there."""
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
    return Piece(text=unwrap(_line_after(text, found.end())), is_binding=True)


def _inside_braces(text: str, start: int) -> str:
    """Returns what stands between the brace just before start and its partner, or nothing."""
    depth = 1
    for end in range(start, min(len(text), start + MAX_BOXED_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return ""


def _line_after(text: str, start: int) -> str:
    """Returns the rest of the line, or if it holds nothing the next line that does."""
    for num_passed in range(4):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)].partition("</answer>")[0]
        if end < 0 or any(map(str.isalnum, line)):
            return "" if num_passed and _LIST_ITEM.match(line) else line
        if line.strip(" \t*`:$[]\\"):
            return line
        start = end + 1
    return ""


def unwrap(text: str) -> str:
    """Returns the text without emphasis, quotes and LaTeX delimiters around all of it."""
    for _ in range(5):
        text = text.strip(" \t\r\n*`")
        found = _WRAPPED.fullmatch(text.rstrip(".")) if text[:1] in "\\$<\"'\u201c\u2018" else None
        if found is None:
            break
        text = next(group for group in found.groups() if group is not None)
    return text


_QUOTES = " \"'\u2018\u2019\u201c\u201d*`"


def normalise(text: str) -> str:
    """Returns the text as exact matching sees it: NFKC, no case, one space, no end punctuation."""
    text = unwrap(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.casefold().split())
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".,;:!?\u2026\u3002") or text


_normalise_gold = functools.lru_cache(maxsize=65_536)(normalise)
_gold_number = functools.lru_cache(maxsize=65_536)(parse_number)


def _grade_exact(problem: Problem, piece: Piece) -> Verdict | None:
    answer, gold = piece.text, _normalise_gold(problem.target)
    is_correct = normalise(answer) == gold
    if not is_correct and not piece.is_binding:
        start = re.split(r",?\s+(?:because|since)\b", answer, maxsplit=1)[0]
        if normalise(start) == gold:
            return start, True
    return answer, is_correct


def _grade_numeric(problem: Problem, piece: Piece) -> Verdict | None:
    gold = _gold_number(problem.target)
    number = read_number(piece.text, anywhere=not piece.is_bare)
    if number is None or gold is None:
        return None
    is_correct = number.value == gold.value
    if number.is_percent != gold.is_percent:
        same_figure = number.figure == gold.figure
        if gold.is_percent:
            is_correct = is_correct or same_figure
        elif _PERCENT_ASKED.search(problem.question):
            is_correct = same_figure
    return number.text, is_correct


def _grade_multiple_choice(problem: Problem, piece: Piece) -> Verdict | None:
    letter = _read_letter(piece.text, problem.choices)
    return None if letter is None else (letter, letter == problem.target)


def _read_letter(text: str, choices: tuple[str, ...]) -> str | None:
    """Returns the letter named alone, with its option's text, or by that text alone; else None."""
    found = _LETTER.fullmatch(text)
    letter, rest = (found["letter"].upper(), found["rest"].strip()) if found else ("", "")
    if letter and not rest:
        return letter
    letter_of = dict(zip(map(_normalise_gold, choices), LETTERS, strict=False))
    by_text = letter_of.get(normalise(text))
    if found is None or by_text is not None:
        return by_text
    named = letter_of.get(normalise(_BESIDE.sub(r"\1\2", rest, count=1)))
    if named is not None:
        return letter if named == letter else None
    is_complete = found["mark"] or _REASON_FOLLOWS.match(found["rest"])
    return letter if is_complete and not _MORE_LETTERS.match(rest.lstrip(",;:- ")) else None


_GRADERS: Mapping[str, Grader] = MappingProxyType(
    {"exact": _grade_exact, "numeric": _grade_numeric, "multiple_choice": _grade_multiple_choice}
)
