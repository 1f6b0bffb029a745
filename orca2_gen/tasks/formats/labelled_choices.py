"""The choices of a plain row, and the letter of the one that its answer names.

An answer names a label where there are labels (choice_labels.py). Without them it is a letter or an
option's text; a number without quotes may count the options as well, so it is refused where it
could.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.choice_labels import split_labels
from orca2_gen.tasks.formats.option_letters import complete_marks
from orca2_gen.tasks.formats.options import read_choices, resolve_letter
from orca2_gen.tasks.statements import BadRowError, NumberText, Row, check_text, describe, is_gap

INDEX = re.compile(r"(-?\d{1,9})(?:\.0)?", re.ASCII)
"""A whole number; pandas writes 2.0 where a column has gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """The options of a row."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """One for each text, or none at all."""


def read_labelled_choices(row: Row, key: str) -> Choices:
    """The choices under the key; none if there is nothing under it.

    Raises:
        BadRowError: they are fewer than two, blank, or carry letters of their own.
    """
    found = row.get(key)
    if is_gap(found):
        return Choices()
    texts, labels = split_labels(found)
    choices = Choices(
        texts=read_choices({key: texts}, key),
        labels=tuple(check_text(label, key, "bad_choices").strip() for label in labels),
    )
    if complete_marks(choices.texts) is not None:
        first = describe(choices.texts[0])
        detail = f"choices begin with their letters ({first}); expected texts alone"
        raise BadRowError("bad_choices", detail)
    if labels and len(set(choices.labels)) != len(choices.texts):
        num = len(set(choices.labels))
        raise BadRowError("bad_choices", f"{len(choices.texts)} choices have {num} labels")
    return choices


def letter_of_answer(answer: str, choices: Choices) -> str:
    """The letter of the choice that the answer names.

    Raises:
        BadRowError: it names none, or could name two.
    """
    if answer.strip() in choices.labels:
        return LETTERS[choices.labels.index(answer.strip())]
    if choices.labels:
        texts = [normalise(text) for text in choices.texts]
        if normalise(answer) in texts:
            return LETTERS[texts.index(normalise(answer))]
        labels = ", ".join(map(describe, choices.labels[:6]))
        detail = f"expected a label ({labels}) or an option's text, found {describe(answer)}"
        raise BadRowError("bad_answer", detail)
    counted = INDEX.fullmatch(answer)
    is_place = counted is not None and 0 <= int(counted[1]) <= len(choices.texts)
    # Counted from 0 or from 1, a number would be a place among the options; quotes make it a text.
    if is_place and (
        isinstance(answer, NumberText) or normalise(answer) not in map(normalise, choices.texts)
    ):
        raise BadRowError(
            "bad_answer",
            f"{describe(answer)} under 'answer' may count the choices; if it counts them from 0, "
            "map its column to answer_index, if from 1, to answer_number; if it is one of them, "
            "write it as text, in quotes",
        )
    return resolve_letter(answer, choices.texts, "answer")


def letter_of_index(index: object, choices: Choices, *, first: int = 0) -> str:
    """The letter of the choice with this index, counted from `first`."""
    counted = INDEX.fullmatch(index) if isinstance(index, str) else None
    if counted is None:
        raise BadRowError("bad_answer", f"expected an index of a choice, found {describe(index)}")
    if not 0 <= int(counted[1]) - first < len(choices.texts):
        raise BadRowError(
            "bad_answer",
            f"expected an index of one of {len(choices.texts)} choices, found {describe(index)}; "
            "answer_index counts from 0, answer_number from 1",
        )
    return LETTERS[int(counted[1]) - first]
