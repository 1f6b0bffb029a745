"""Options as the published formats write them -> plain texts in the order of their letters."""

from __future__ import annotations

from collections.abc import Sequence

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.formats.option_letters import (
    Mark,
    complete_marks,
    printed_letter,
    sure_marks,
)
from orca2_gen.tasks.statements import BadRowError, Row, check_text, describe, found_under


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
    put in order. Options without a letter among lettered ones keep their places, if the lettered
    ones are at theirs.
    """
    marks = complete_marks(options, bare=True)
    if marks is None:
        return _stripped_in_place(options)
    texts = _ordered(marks)
    # Some files print the letter twice, `(A)A. red`, and one is shown before every text here.
    if all(mark is not None and mark[1] for mark in sure_marks(texts)):
        again = complete_marks(texts)
        if again is not None and [letter for letter, _ in again] == list(LETTERS[: len(texts)]):
            texts = _ordered(again)
    if not all(texts):
        raise BadRowError("bad_choices", "one of the choices is blank")
    return texts


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The texts in the order of their letters if they carry all of them; else as they are.

    It is for formats whose options have no letters of their own, so that a few are no fault.
    """
    return tuple(options) if complete_marks(options) is None else strip_letters(options)


def _ordered(marks: Sequence[Mark]) -> tuple[str, ...]:
    return tuple(text for _, text in sorted(marks))


def _stripped_in_place(options: Sequence[str]) -> tuple[str, ...]:
    own = LETTERS[: len(options)]
    marks = sure_marks(options)
    if any(mark is not None and mark[0] != place for mark, place in zip(marks, own, strict=True)):
        shown = ", ".join("none" if mark is None else mark[0] for mark in marks)
        raise BadRowError("bad_choices", f"expected the letters {own[0]} to {own[-1]}, got {shown}")
    texts = tuple(
        option if mark is None else mark[1] for option, mark in zip(options, marks, strict=True)
    )
    if not all(texts):
        raise BadRowError("bad_choices", "one of the choices is blank")
    return texts


def resolve_letter(answer: str, choices: Sequence[str], key: str) -> str:
    """The letter that the answer names; one option's letter that is another's text is refused."""
    letters = LETTERS[: len(choices)]
    texts = [normalise(choice) for choice in choices]
    # A text that occurs twice gives its first letter: `check_statement` refuses it.
    named = {letters[texts.index(normalise(answer))]} if normalise(answer) in texts else set()
    bare = printed_letter(answer)
    if bare and bare in letters:
        named.add(bare)
    if len(named) != 1:
        raise _bad_answer(answer, choices, key)
    return named.pop()


def resolve_printed(label: str, choices: Sequence[str], key: str) -> str:
    """The letter of a label that is a printed letter, whatever the options' texts are."""
    letter = printed_letter(label)
    if not letter or letter not in LETTERS[: len(choices)]:
        raise _bad_answer(label, choices, key)
    return letter


def _bad_answer(answer: str, choices: Sequence[str], key: str) -> BadRowError:
    expected = f"a letter from A to {LETTERS[len(choices) - 1]} or one option's text"
    return BadRowError("bad_answer", f"expected {expected} under {key!r}, found {describe(answer)}")
