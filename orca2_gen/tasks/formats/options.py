"""Options as the published formats write them -> plain texts in the order of their letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.statements import BadRowError, Row, check_text, describe, found_under

_MARKED = re.compile(r"\s*(?:\(\s*([A-Z])\s*\)|([A-Z])\)|([A-Z])[.:](?=\s))\s*")
_BARE = re.compile(r"\s*([A-Z])\??\s+")


def read_choices(row: Row, key: str) -> tuple[str, ...]:
    """The texts of a list of 2 to 26 options, none of them blank."""
    found = row.get(key)
    if not isinstance(found, list) or not 2 <= len(found) <= len(LETTERS):
        expected = f"a list of 2 to {len(LETTERS)} texts under {key!r}"
        raise BadRowError("bad_choices", f"expected {expected}, found {found_under(row, key)}")
    choices = tuple(check_text(choice, key, "bad_choices").strip() for choice in found)
    if not all(choices):
        raise BadRowError("bad_choices", "one of the choices is blank")
    return choices


def strip_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The texts without the letters before them, in the order of the letters.

    A file may print `(A)` `(C)` `(B)` `(D)`: the answer names a printed letter, so the texts are
    put in order. `A text` and `A? text` count as lettered only if every option is lettered then.
    Options without a letter among lettered ones keep their places, if the lettered ones are at
    theirs.
    """
    own = LETTERS[: len(options)]
    matches = [_MARKED.match(option) for option in options]
    if None in matches:
        bare = [
            found or _bare_letter(option, letter)
            for option, letter, found in zip(options, own, matches, strict=True)
        ]
        matches = matches if None in bare else bare
    letters = [None if found is None else _letter(found) for found in matches]
    texts = [
        option if found is None else option[found.end() :].strip()
        for option, found in zip(options, matches, strict=True)
    ]
    if not all(texts):
        raise BadRowError("bad_choices", "one of the choices is blank")
    if None not in letters and sorted(map(str, letters)) == list(own):
        return tuple(text for _, text in sorted(zip(map(str, letters), texts, strict=True)))
    if any(letter not in (None, place) for letter, place in zip(letters, own, strict=True)):
        shown = ", ".join(letter or "none" for letter in letters)
        raise BadRowError("bad_choices", f"expected the letters {own[0]} to {own[-1]}, got {shown}")
    return tuple(texts)


def _bare_letter(option: str, letter: str) -> re.Match[str] | None:
    found = _BARE.match(option)
    return found if found is not None and found[1] == letter else None


def _letter(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def carry_letters(choices: Sequence[str]) -> bool:
    """Whether every choice begins with its own letter, as in `A) text`."""
    return all(
        choice.lstrip("(")[:2] in (f"{x})", f"{x}.", f"{x}:")
        for x, choice in zip(LETTERS, choices, strict=False)
    )


def resolve_letter(answer: str, choices: Sequence[str], key: str) -> str:
    """The letter that the answer names; one option's letter that is another's text is refused."""
    letters = LETTERS[: len(choices)]
    texts = [normalise(choice) for choice in choices]
    # A text that occurs twice gives its first letter: `check_statement` refuses it.
    named = {letters[texts.index(normalise(answer))]} if normalise(answer) in texts else set()
    bare = answer.strip().strip("().").strip().upper()
    if len(bare) == 1 and bare in letters:
        named.add(bare)
    if len(named) != 1:
        expected = f"a letter from {letters[0]} to {letters[-1]} or one option's text"
        raise BadRowError(
            "bad_answer", f"expected {expected} under {key!r}, found {describe(answer)}"
        )
    return named.pop()
