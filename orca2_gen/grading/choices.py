"""The answer to a closed question: the letter, or yes or no, that a short text states.

    B    (b) Paris    option B, because ...    Paris         a letter
    Yes, it does.    no    definitely not true    False      yes or no

A text that names two (`A or B`, `yes and no`), a letter beside another option's text, or a letter
beyond the options names none. True is yes and false is no; so are correct and incorrect if the gold
is one of them, for otherwise `incorrect` may be said of something else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from orca2_gen.grading.answers import normalise, unwrap
from orca2_gen.grading.numbers import Number, parse_number, read_number
from orca2_gen.grading.plain_notation import plain_mathematics

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# What the letter is called before it is named: `option B`, `it must be (B)`.
_LEAD_IN = (
    r"(?:(?:it|that|this) (?:is|must be|should be|has to be)\s+|(?:likely|probably|therefore)\s+"
    r"|(?:the )?(?:(?:option|choice|letter|answer)\b[\s:]*))"
)
_LETTER = re.compile(
    rf"[\W_]{{0,4}}?{_LEAD_IN}{{0,3}}[(\[{{<]?\s*(?P<letter>[A-Z])"
    r"(?P<mark>(?:\s*[)\]}>])?[.:,;)!?]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_MORE_LETTERS = re.compile(
    r"\s*(?:and|or|&|/|,|\+)?\s*[(\[]?[A-Z][)\].]?(?:\s|$|,)|\s*(?:and|or|&|/)\b"
)
# A new sentence about the other letters, after the one that named this one: `B. A is wrong`.
_DISCUSSION = re.compile(
    r"(?:\(?(?:options?|choices?)?\s?\(?[A-Z]\)?(?:,? (?:and|or|nor) |, )?){1,5}\s(?:is|are|was"
    r"|were|has|have|does|do|can|cannot|could|would|describes?|says?|isn't|aren't|doesn't|refers?)\b"
    r"|[AI]\s(?!(?:and|or|nor)\b)[a-z]{2}",  # an article, a pronoun
    re.IGNORECASE,
)
_ALSO_RIGHT = re.compile(
    r"\b(?:is|are|be|seems?)\b(?! not\b)[^.]{0,20}\b(?:correct|right|true|possible|valid|the answer"
    r"|acceptable|fine)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\s*(?:(?:is|was|(?:can|could|may|must) be)\s(?:clearly |also |definitely )?"
    r"(?:not|wrong|incorrect|false|eliminated|ruled out|excluded|impossible|out)\b"
    r"|(?:isn't|cannot|can't|wrong|incorrect)\b)",
    re.IGNORECASE,
)
_CROSS = re.compile("[\u274c\u2716\u2717\u2718\u00d7]")
# The option's text beside its letter: `- Paris`, `(Paris)`, `= Paris`, `-> Paris`.
_BESIDE = re.compile(r"[-:=>|\u2192\u2013\u2014 ]*(?:[(\[](.*)[)\]]|(.*))", re.DOTALL)
_LETTER_LAST = re.compile(
    r"(?P<text>.*?)\s*(?:[-:=>|,\u2192\u2013\u2014(\[]\s*)(?:(?:option|choice|letter)\s)?\(?"
    r"(?P<letter>[A-Z])\s*[)\]]{0,2}\.?",
    re.IGNORECASE | re.DOTALL,
)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")
_NOT_STATED = re.compile(
    r"\b(?:not?|never|neither|nor|except|wrong|incorrect|rather|instead|either|or|but|eliminat\w*"
    r"|rul\w* out|exclud\w*|unlike)\b|n't\b|\?",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"not\s+[(\[]?[A-Z][)\]]?,?\s+but\s+(?:rather\s+)?(?P<rest>.+)", re.DOTALL)
_MARKED_LETTER = re.compile(r"(?<![A-Z])([A-Z])[).]")
_REASON_FOLLOWS = re.compile(
    r"\s+(?:because|since|as|is|for)\b|\s*[,;:\u2013\u2014(]\s?|\s+-\s|\s*[=\u2192]|\s*->"
)
_DRESS = re.compile(
    r"\\(?:text|math)[a-z]{0,6}\s?\{([^{}]*)\}|\\(?:bf|rm|it)(?![a-z])|\\(?:q?quad\b|[ ,;:!])"
)


def render_choices(choices: Sequence[str]) -> str:
    """The options as lines `A) text`."""
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))


_NAMED_BESIDE = re.compile(r"(?:\(|^|\b(?:option|choice)\s+)([A-Za-z])(?=\)|[.:]\s|\s*$)", re.I)


def read_letter(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter named alone, with its option's text, or by that text or number alone; else None.

    A letter beyond the options names none.
    """
    if "\\" in text and _letter_of_text(text, choices) is None:
        text = unwrap(_DRESS.sub(lambda found: found[1] or " ", text))
    letters = LETTERS[: len(choices)] if choices else LETTERS
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    found = _LETTER.fullmatch(text)
    letter = found["letter"].upper() if found else ""
    if found and letter in letters and not found["rest"].strip():
        return letter
    if (by_text := _letter_of_text(text, choices)) is not None:
        return by_text
    if (by_number := _letter_of_number(text, choices)) is not None:
        # `(B) 10` where 10 is another option names none.
        named = {each.upper() for each in _NAMED_BESIDE.findall(text)} & set(letters)
        return by_number if named <= {by_number} else None
    if found is not None and letter in letters:
        stated = _letter_stated(found, letter, choices)
        if stated is not None:
            return stated
    return _letter_at_the_end(text, letters, choices)


def _letter_stated(found: re.Match[str], letter: str, choices: tuple[str, ...]) -> str | None:
    """The letter that the text starts with, if the rest leaves it the only one."""
    rest = found["rest"].strip()
    if not any(map(str.isalnum, rest)):
        return None if _CROSS.search(rest) else letter
    named = _letter_of_text(rest, choices)
    if named is None and not rest[0].isalnum():
        named = _letter_of_text(_BESIDE.sub(r"\1\2", rest, count=1), choices)
    if named is not None:
        return letter if named == letter else None
    others = set(_MARKED_LETTER.findall(rest.upper())) & set(LETTERS[: len(choices)]) - {letter}
    if len(others) >= min(2, len(choices) - 1) > 0:
        return None  # the text discusses the options one by one
    is_complete = found["mark"] or _REASON_FOLLOWS.match(found["rest"])
    if not is_complete or _DENIED.match(rest):
        return None
    is_new = "." in found["mark"] or ")" in found["mark"] or rest.startswith("(")
    rest = rest.lstrip("(,;:- ")
    if _MORE_LETTERS.match(rest):
        is_discussed = is_new and _DISCUSSION.match(rest) and not _ALSO_RIGHT.search(rest)
        return letter if is_discussed else None
    if "." in found["mark"] and _DISCUSSION.match(rest) and _ALSO_RIGHT.search(rest):
        return None
    return letter


def _letter_at_the_end(text: str, letters: str, choices: tuple[str, ...]) -> str | None:
    """The letter after its option's text (`Paris (B)`), or the only bracketed one of a sentence."""
    if (turn := _NOT_BUT.fullmatch(text)) is not None:
        return read_letter(turn["rest"], choices)
    found = _LETTER_LAST.fullmatch(text)
    if found is not None:
        named = _letter_of_text(found["text"], choices)
        if named is not None:
            return named if named == found["letter"].upper() else None
    bracketed = set(_IN_BRACKETS.findall(text))
    if len(bracketed) != 1 or _NOT_STATED.search(text) or _CROSS.search(text):
        return None
    letter = bracketed.pop()
    beside = [choice for choice in choices if len(choice) > 1 and choice.lower() in text.lower()]
    agrees = not beside or _letter_of_text(beside[0], choices) == letter
    return letter if letter in letters and len(beside) < 2 and agrees else None


def _letter_of_text(text: str, choices: tuple[str, ...]) -> str | None:
    plain = normalise(text)
    letter_of = _letters_by_text(choices)
    return letter_of.get(plain) or letter_of.get(plain.removeprefix("the "))


@functools.lru_cache(maxsize=65_536)
def _letters_by_text(choices: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(map(normalise, choices), LETTERS, strict=False))


def _letter_of_number(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the only option that states the number which the text is: `12` for `$12`.

    Units beside both numbers must be the same.
    """
    if len(text) > MAX_OPTION_NUMBER_CHARS or not _DIGIT.search(text):
        return None
    number = _quantity_of(text)
    if number is None:
        return None
    same = [
        letter
        for letter, choice in zip(LETTERS, map(_quantity_of, choices), strict=False)
        if choice is not None and _is_same_quantity(choice, number)
    ]
    return same[0] if len(same) == 1 else None


MAX_OPTION_NUMBER_CHARS = 60
_DIGIT = re.compile("[0-9]")
_UNIT = re.compile(r"[^\W\d_][^\d]*|[\u00b0\u20ac\u00a3\u00a5$]")


@functools.lru_cache(maxsize=65_536)
def _quantity_of(text: str) -> tuple[Number, str] | None:
    """The number with its unit, if the text is little more than one."""
    if len(text) > MAX_OPTION_NUMBER_CHARS:
        return None
    number = read_number(text, anywhere=False)
    if number is None:
        return None
    plain = plain_mathematics(text.strip("$ ")).lower().replace("percent", "%")
    unit = "" if parse_number(plain) else " ".join(_UNIT.findall(plain)).strip(" .")
    return (number, unit) if len(unit.split()) <= 3 else None


def _is_same_quantity(one: tuple[Number, str], other: tuple[Number, str]) -> bool:
    (number, unit), (other_number, other_unit) = one, other
    if unit and other_unit and unit.rstrip("s") != other_unit.rstrip("s"):
        return False
    if number.is_percent == other_number.is_percent:
        return number.value == other_number.value
    return number.value == other_number.value or number.figure == other_number.figure


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
    r"[^\w\s/|&']|\s*$|\s+[^\w\s/|&'\u274c]|\s+(?:because|since|as|for|given|if|way|he|she|it|they|we"
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
