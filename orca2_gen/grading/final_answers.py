"""Which announcement of a completion is its final answer, and whether it was taken back.

- The last strong announcement (announcements.py) outranks weak ones wherever they stand: a later
  `the answer to the first question was 14` does not replace `Answer: 12`.
- A later weak one counts where the strong one states no value by itself (`Answer: We add 5 and 7.
  The answer is 12.`), or where a correction stands between them.
- A correction after an announcement (`13, no wait, 12`; `13. Wait, it should be 12.`) replaces it;
  one that takes it back without another value leaves no answer; one that confirms it changes
  nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TypeVar

from orca2_gen.grading.announcements import Piece, find_answers
from orca2_gen.grading.answers import LINE_MARK, unwrap

Verdict = TypeVar("Verdict")
Read = Callable[[Piece], Verdict | None]

_MARK = re.compile(
    r"(?:[.,;:!?()\n*$>}\u2026\u2013\u2014-]\s{0,4}"
    r"(?:\b(?:no|oh|hm+|ah|oops|sorry|but|well)\b[,.!:]?\s{1,3}){0,3}"
    r"\b(?:wait|hold on|correction|corrected|scratch that|on second thoughts?|on reflection|i mean"
    r"|i meant|(?:or )?rather(?! than)|sorry|oops|my mistake"
    r"|(?:i|we) (?:made|see) (?:a|an|my) (?:\w+ )?(?:mistake|error)"
    r"|let me (?:re\w{2,12}|correct|double.?check|fix|check))\b"
    r"|(?:[.;!?\u2013\u2014]\s{1,4}|\n\s{0,4})(?:no,? |but )?(?:(?:that|this|it)(?:'s| is| was) "
    r"(?:wrong|incorrect|not (?:right|correct)|a mistake)|actually)\b"
    r"|,\s{1,3}(?:no,? )?actually\b(?=,? (?:it|that|[-$\d(]))"
    r"|\s(?:no,? wait|wait,? no|or rather|scratch that|i mean)\b)[,.:!\u2026-]*\s*",
    re.IGNORECASE,
)
# A word of each correction, in lower case; most answers are short and hold none.
_MAY_CORRECT = re.compile(
    "wait|hold on|correct|scratch that|reflection|mean|rather|sorry|oops|mistake|error|let me"
    "|wrong|actually|second though"
)
_NO = re.compile(r"[.,;:!?)\n\u2013\u2014-]\s{0,4}no[,.;:!]\s{1,3}(?=\S)", re.IGNORECASE)
# The words before the value of a correction: `it should be 12`, `so the answer is 12`, `yes, 12`.
_STATES = re.compile(
    r"\W{0,4}(?:(?:so|then|thus|hence|therefore|and|but|now|no|yes|actually|rather|sorry|wait)\b[,:.]?\s{1,3}"
    r"|i (?:think|believe|meant?)\b(?: that)?\s{1,3}){0,4}"
    r"(?:(?:it|that|this|(?:the|my) (?:[a-z]+ ){0,3}?"
    r"(?:answer|number|letter|value|result|option|choice|total|sum|one))"
    r"(?:'s|'d be| is| was| should be| must be| would be| should have been| equals| comes to)"
    r"|should be|must be|make (?:it|that)|correction|i meant?|yes,|no,|so)"
    r"\s{0,3}:?\s{0,3}(?:(?:actually|really|in fact|therefore|just|indeed)\s{1,3})?",
    re.IGNORECASE,
)
_CONFIRMS = re.compile(
    r"(?<!not )(?<!n't )\b(?:right|correct|good|fine|holds|checks out|confirmed|stands|matches)\b",
    re.IGNORECASE,
)
_WITHDRAWS = re.compile(
    r"\b(?:wrong|incorrect|mistake|error|(?:not|n't) (?:right|correct|true|it))\b", re.IGNORECASE
)
_NO_VALUE = re.compile(
    r"\W*(?:(?:not |in)?(?:right|correct|wrong|true|false)|let|i|we|it|they|yes|no|is"
    r"|are|the question|this|that|because|since|what|there)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_VALUE = re.compile(r"\d|\b[B-HJ-Z]\b|\bA\b(?= (?:or|and)\b|[).,?!]|$)")
MAX_FREE_WORDS = 12
"""Words of a free text that a correction may state; more are a remark."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the final answer of a type depends on."""

    is_free: bool
    """Whether any text reads as an answer, so that only its place tells what it is."""
    is_closed: bool = False
    """Whether an answer is a number or a letter, so that `no, ...` is a correction of it."""
    many_lines: bool = False
    max_bare_chars: int
    keeps_lines: bool = False
    """Whether a gold answer or an option holds the words of a correction itself."""


def holds_correction(text: str) -> bool:
    """Whether words of the text would be read as a correction."""
    return _MARK.search(f". {text}") is not None


def final_answer(text: str, read: Read[Verdict], reading: Reading) -> Verdict | None:
    """What read makes of the completion's final answer; None if it has none."""
    later: Piece | None = None
    later_verdict: Verdict | None = None
    is_bare = True
    for piece in find_answers(text, many_lines=reading.many_lines):
        is_bare = False
        if not piece.text:
            continue
        if not piece.is_binding:
            if later_verdict is None:
                later, later_verdict = piece, _read_corrected(text, len(text), piece, read, reading)
            continue
        if later is None or later_verdict is None:
            return _read_corrected(text, len(text), piece, read, reading)
        if _marks(text, piece.start, later.start, reading):
            return later_verdict
        # Any sentence reads as free text, so an announced answer outranks it there.
        alone = piece if reading.is_free else dataclasses.replace(piece, is_bare=True)
        return _read_corrected(text, later.start, alone, read, reading) or later_verdict
    line = text.strip()
    if is_bare and 0 < len(line) <= reading.max_bare_chars:
        lines = line.split("\n")
        if len(lines) == 1 or (
            reading.many_lines and all(map(LINE_MARK.match, filter(str.strip, lines)))
        ):
            piece = Piece(text=unwrap(line), is_binding=True, is_bare=True)
            return _read_corrected(line, len(line), piece, read, reading)
    return later_verdict


def _marks(text: str, start: int, end: int, reading: Reading) -> list[tuple[int, int]]:
    """Where corrections of an announcement begin and where their texts begin, in order."""
    if reading.keeps_lines:
        line_end = text.find("\n", start, end)
        start = line_end if line_end >= 0 else end
    if text.find(" ", start + 1, end) < 0:
        return []
    lowered = text[start:end].lower()
    spans: list[tuple[int, int]] = []
    if _MAY_CORRECT.search(lowered):
        spans = [found.span() for found in _MARK.finditer(text, start, end)]
    if reading.is_closed and not spans and " no" in lowered:
        spans = [found.span() for found in _NO.finditer(text, start, end)]
    if spans and not any(map(str.isalnum, text[start : spans[0][0]])):
        # Nothing was said before the first one, unless a box or a tag said it.
        spans = spans if text[start - 1 : start] in ("}", "<") else spans[1:]
    return spans


def _read_corrected(
    text: str, end: int, piece: Piece, read: Read[Verdict], reading: Reading
) -> Verdict | None:
    """What read makes of a piece after the corrections that follow it in the text."""
    marks = _marks(text, piece.start, end, reading)
    if not marks:
        return read(piece)
    for begin, start in reversed(marks):
        is_near = text.count("\n\n", piece.start, begin) < 2 and begin - piece.start < 400
        said = text[start:end]
        is_direct = is_near and "let me" not in text[begin:start].lower()
        replaced = _replacement(said, is_direct, read, reading)
        if replaced is not None:
            return replaced
        if not is_near or _CONFIRMS.search(text, begin, end):
            end = begin
            continue
        if _WITHDRAWS.search(text, begin, end) or (reading.is_closed and _VALUE.search(said)):
            return None
        end = begin
    if reading.is_free and "\n" not in text[piece.start : marks[0][0]]:
        before = unwrap(text[piece.start : marks[0][0]])
        piece = piece if not before else dataclasses.replace(piece, text=before)
    return read(piece)


def _replacement(
    said: str, is_direct: bool, read: Read[Verdict], reading: Reading
) -> Verdict | None:
    """What read makes of the value that the text of a correction states; None if it states none."""
    sentences = [sentence for sentence in _SENTENCE_END.split(said) if sentence.strip()]
    for sentence in reversed(sentences):
        if states := _STATES.match(sentence):
            verdict = _value(sentence[states.end() :], read, reading)
            if verdict is not None:
                return verdict
    if not sentences:
        return None
    verdict = _value(sentences[0], read, reading) if is_direct else None
    if verdict is not None or reading.is_free:
        return verdict
    for sentence in reversed(sentences):
        if "=" in sentence and (verdict := _value(sentence, read, reading)) is not None:
            return verdict
    return None


def _value(sentence: str, read: Read[Verdict], reading: Reading) -> Verdict | None:
    value = unwrap(sentence.strip(" ()\t\n"))
    if not value:
        return None
    if reading.is_free and (_NO_VALUE.match(value) or len(value.split()) > MAX_FREE_WORDS):
        return None
    return read(Piece(text=value, is_binding=True, is_bare=True))
