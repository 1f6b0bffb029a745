"""Letters that stand before the texts of options, as published files print them.

    (A)red   A) red   A ) red   A. red   (a) red   A\uff0ered   \uff08A\uff09red   A red

A mark is *sure* if no text of an option begins so by chance, *loose* if it is a letter only beside
its fellows: every option must carry one then, and the letters must be complete.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS

# The escapes are full-width letters, brackets and stops, and the CJK comma and brackets.
_ONE = r"([A-Z\uff21-\uff3a])"
_OPEN, _CLOSE = r"[(\[\uff08\u3010]", r"[)\]\uff09\u3011]"
_SURE = re.compile(
    rf"\s*(?:{_OPEN}\s*{_ONE}\s*{_CLOSE}|{_ONE}\s*{_CLOSE}(?:\.(?=\s))?"
    rf"|{_ONE}\s*[\uff0e\uff1a]|{_ONE}\s?[.:](?=\s))\s*"
)
# `A.D.` is no mark, nor are `A:B` and `A - B`, which speak of A and B.
_LOOSE = re.compile(
    r"\s*(?:(?:option|choice)\s+)?(?:"
    rf"{_OPEN}\s*([A-Z])\s*{_CLOSE}|([A-Z])\s*{_CLOSE}|([A-Z])\.(?!\s*[A-Z]\.)"
    r"|([A-Z])[\u3001\u3002\uff0c](?!\s*[A-Z]\s*(?:[\u3001\uff0c]|\Z))|([A-Z])\s?:(?!\s*[A-Z]\s*\Z)|([A-Z])\s+[-\u2013\u2014]\s+(?=\w{2}))\s*",
    re.IGNORECASE,
)
_BARE = re.compile(r"\s*([A-Z])\??\s+")
# `A and B` and `A is guilty` speak of A; so do formulas.
_SPEAKS = re.compile(
    r"(?:and|or|nor|but|is|are|was|were|has|had|have|do|does|did|can|could|will|would|should|must"
    r"|may|might|only|alone)\b|[-+=<>*/^\u00d7\u2212\u2260\u2264\u2265,]",
    re.IGNORECASE,
)

Mark = tuple[str, str]
"""The letter before an option, and the text behind it."""


def sure_marks(options: Sequence[str]) -> list[Mark | None]:
    """The mark of every option that surely carries one."""
    return [_mark(_SURE, option) for option in options]


def complete_marks(options: Sequence[str], *, bare: bool = False) -> list[Mark] | None:
    """The marks of options that carry every one of their letters once, in any order; else None.

    With `bare`, letters that only a space follows are marks too, in their own places. Of marks that
    are not sure, no text may be blank or come twice: `A minor`, `B minor` are texts.
    """
    own = list(LETTERS[: len(options)])
    marks = _all_marks((_SURE,), options)
    if marks is not None and sorted(letter for letter, _ in marks) == own:
        return marks
    marks = _all_marks((_SURE, _LOOSE), options)
    if marks is not None and sorted(letter for letter, _ in marks) == own:
        return marks if _are_texts(marks) else None
    marks = _all_marks((_SURE, _BARE), options) if bare else None
    if marks is None or [letter for letter, _ in marks] != own or not _are_texts(marks):
        return None
    return marks


def printed_letter(text: str) -> str:
    """The capital letter that the text is, in any width and with or without brackets; else ""."""
    bare = unicodedata.normalize("NFKC", text).strip(" \t\r\n()[].:\u3010\u3011\u3001").upper()
    return bare if len(bare) == 1 and bare in LETTERS else ""


def _all_marks(patterns: Sequence[re.Pattern[str]], options: Sequence[str]) -> list[Mark] | None:
    """The mark of each option by the first pattern that finds one; None if an option has none."""
    marks = []
    for option in options:
        mark = next(filter(None, (_mark(pattern, option) for pattern in patterns)), None)
        if mark is None:
            return None
        marks.append(mark)
    return marks


def _mark(pattern: re.Pattern[str], option: str) -> Mark | None:
    found = pattern.match(option)
    if found is None:
        return None
    letter = next(group for group in found.groups() if group is not None)
    text = option[found.end() :].strip()
    if pattern is _BARE and _SPEAKS.match(text):
        return None
    return printed_letter(letter), text


def _are_texts(marks: Sequence[Mark]) -> bool:
    texts = [normalise(text) for _, text in marks]
    return all(texts) and len(set(texts)) == len(texts)
