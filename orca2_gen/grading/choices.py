"""The answer to a closed question: the letter, or yes or no, that a short text states.

    B    (b) Paris    option B, because ...    Paris         a letter
    Yes, it does.    no    definitely not true    False      yes or no

A text that names two (`A or B`, `yes and no`), or a letter beside another option's text, names
none. True is yes and false is no; so are correct and incorrect if the gold is one of them, for
otherwise `incorrect` may be said of something else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from orca2_gen.grading.answers import normalise

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER = re.compile(
    r"(?:(?:option|choice|letter)[\s:]*)?[(\[{<]?\s*(?P<letter>[A-Z])"
    r"(?P<mark>(?:\s*[)\]}>])?[.:,;)!?]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_MORE_LETTERS = re.compile(
    r"\s*(?:and|or|&|/|,|\+)?\s*[(\[]?[A-Z][)\].]?(?:\s|$|,)|\s*(?:and|or|&|/)\b"
)
# The option's text beside its letter: `- Paris`, `(Paris)`.
_BESIDE = re.compile(r"[-:\u2013\u2014 ]*(?:\((.*)\)|(.*))", re.DOTALL)
_MARKED_LETTER = re.compile(r"(?<![A-Z])([A-Z])[).]")
_REASON_FOLLOWS = re.compile(r"\s+(?:because|since|as|is)\b|\s*[,;:\u2013\u2014]\s|\s+-\s")


def render_choices(choices: Sequence[str]) -> str:
    """The options as lines `A) text`."""
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))


def read_letter(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter named alone, with its option's text, or by that text alone; else None."""
    found = _LETTER.fullmatch(text)
    letter, rest = (found["letter"].upper(), found["rest"].strip()) if found else ("", "")
    if letter and not rest:
        return letter
    letter_of = dict(zip(map(_normalise_choice, choices), LETTERS, strict=False))
    by_text = letter_of.get(normalise(text)) or letter_of.get(normalise(text).removeprefix("the "))
    if found is None or by_text is not None:
        return by_text
    named = letter_of.get(normalise(_BESIDE.sub(r"\1\2", rest, count=1)))
    if named is not None:
        return letter if named == letter else None
    others = set(_MARKED_LETTER.findall(rest.upper())) & set(LETTERS[: len(choices)]) - {letter}
    if len(others) >= min(2, len(choices) - 1) > 0:
        return None  # the text discusses the options one by one
    is_complete = found["mark"] or _REASON_FOLLOWS.match(found["rest"])
    return letter if is_complete and not _MORE_LETTERS.match(rest.lstrip(",;:- ")) else None


_normalise_choice = functools.lru_cache(maxsize=65_536)(normalise)

_YES, _NO = ("yes", "yeah", "yep", "true", "y", "t"), ("no", "nope", "nah", "false", "n", "f")
_YES_BY_RIGHT, _NO_BY_RIGHT = ("correct", "right"), ("incorrect", "wrong")
_SAID = re.compile(
    r"\W*(?:(?:well|so|hence|therefore|thus|then|oh|hm+)\b[,:]?\s+)*"
    r"(?:(?:it|this|that"
    r"|(?P<statement>(?:the|this|that) (?:statement|claim|sentence|assertion|proposition))) is"
    r"(?P<isnt>n't)?\s+)?"
    r"(?:(?:of course|definitely|certainly|clearly|absolutely|probably|most likely|likely|surely"
    r"|obviously|indeed)\b[,:]?\s+)?"
    r"(?P<not>not\s+)?(?P<word>[a-z]+)\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
# Text that may follow a yes or no that is the whole answer; `no evidence`, `true story` are not.
_ANSWER_ENDS = re.compile(
    r"[^\w\s/|&']|\s*$|\s+[-\u2013\u2014(]|\s+(?:because|since|as|for|given|if|way|he|she|it|they|we"
    r"|you|i|this|that|there|these|those|the|indeed|but|however|although|though|and|or)\b",
    re.IGNORECASE,
)
_HEDGE = (
    r"(?:^\W*(?:(?:and|or|or rather|rather)\b\W*)?"
    r"|\b(?:but|wait|actually|rather|or|perhaps|maybe)\b[^.\n]{{0,30}}?)\b(?:{opposite})\b"
    r"(?!\s+(?:doubt|question|one|matter|need|other))"
)
_HEDGES = {
    is_yes: re.compile(_HEDGE.format(opposite="no|nope|false" if is_yes else "yes|true"), re.I)
    for is_yes in (True, False)
}


def read_yes_no(text: str, *, by_right: bool = False) -> bool | None:
    """The first yes or no in the text, True for yes; None for neither or both.

    `by_right` reads correct, right, incorrect and wrong as well.
    """
    found = _SAID.match(normalise(text))
    if found is None:
        return None
    word, rest = found["word"], found["rest"]
    by_right = by_right or found["statement"] is not None
    is_yes = word in _YES or (by_right and word in _YES_BY_RIGHT)
    if not is_yes and word not in _NO and not (by_right and word in _NO_BY_RIGHT):
        return None
    if (len(word) == 1 and rest.strip()) or not _ANSWER_ENDS.match(rest):
        return None
    if _HEDGES[is_yes].search(rest):
        return None
    if found["not"] or found["isnt"]:
        return None if word in ("yes", "no") else not is_yes
    return is_yes
