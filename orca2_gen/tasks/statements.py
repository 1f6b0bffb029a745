"""The Statement of one row: the fields of a Problem that its format sets, and their checks."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS, read_yes_no
from orca2_gen.grading.gold_types import type_of_gold
from orca2_gen.grading.numbers import parse_number
from orca2_gen.grading.own_words import is_gradable
from orca2_gen.records import AnswerType, Problem

MAX_TEXT_CHARS = 100_000
MAX_ID_CHARS = 200
MAX_TARGETS = 100

Row = Mapping[str, Any]


class NumberText(str):
    """A JSON number as the file writes it: 1.10 stays 1.10, and no digit is lost in a float."""

    __slots__ = ()


class BadRowError(ValueError):
    """A row that cannot become a Problem; `read_task` turns it into a Rejection."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keeps the countable word and the sentence apart."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """The content of a row, before it has an identity."""

    question: str
    target: str
    answer_type: AnswerType
    other_targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    category: str = ""
    sub_category: str = ""
    source_task: str = ""
    """The row's own task in a file that mixes tasks; empty in a file of one task."""
    source_id: str | None = None
    """Id as `read_id` encodes it; None if the row has none, and its place in the file is used."""


def check_statement(statement: Statement) -> Statement:
    """The statement, after the checks that hold for every format.

    Wrong choices that repeat each other stay: the row is as hard without one of them. A choice that
    repeats the gold one is refused, since a right answer could name either letter.
    """
    num_chars = len(statement.question) + sum(map(len, statement.choices))
    if num_chars > MAX_TEXT_CHARS:
        detail = (
            f"question and choices have {num_chars} characters, expected at most {MAX_TEXT_CHARS}"
        )
        raise BadRowError("too_long", detail)
    if len(statement.other_targets) >= MAX_TARGETS:
        num = len(statement.other_targets) + 1
        raise BadRowError("too_many_answers", f"{num} gold answers, expected at most {MAX_TARGETS}")
    if (statement.answer_type == "multiple_choice") != bool(statement.choices):
        found = f"{statement.answer_type} with {len(statement.choices)} choices"
        raise BadRowError(
            "bad_choices", f"expected choices for multiple_choice and no other type, found {found}"
        )
    if statement.choices:
        _check_gold_choice(statement)
    if statement.answer_type == "numeric":
        for gold in (statement.target, *statement.other_targets):
            if parse_number(gold) is None:
                raise BadRowError("bad_answer", f"expected a number, found {describe(gold)}")
    if statement.answer_type == "yes_no" and read_yes_no(statement.target, by_right=True) is None:
        found = describe(statement.target)
        raise BadRowError("bad_answer", f"expected yes, no, true or false, found {found}")
    return _check_gold(statement)


def _check_gold(statement: Statement) -> Statement:
    """The statement with the answer type that can grade its gold."""
    kind = type_of_gold(statement.answer_type, statement.target)
    if kind != statement.answer_type:
        statement = replace(statement, answer_type=kind)
    problem = Problem(
        problem_id="",
        task="",
        question=statement.question,
        target=statement.target,
        answer_type=kind,
        other_targets=statement.other_targets,
        choices=statement.choices,
    )
    if not is_gradable(problem):
        found = describe(statement.target)
        raise BadRowError(
            "gold_not_gradable",
            f"{kind} does not recognise the gold answer in its own words: {found}; set another "
            "answer_type, or judge the task (open)",
        )
    return statement


def _check_gold_choice(statement: Statement) -> None:
    gold = LETTERS.find(statement.target)
    if len(statement.target) != 1 or not 0 <= gold < len(statement.choices):
        found = f"{describe(statement.target)} with {len(statement.choices)} choices"
        raise BadRowError("bad_answer", f"expected the letter of a choice, found {found}")
    texts = [normalise(choice) for choice in statement.choices]
    same = [LETTERS[i] for i, text in enumerate(texts) if text == texts[gold]]
    if len(same) > 1:
        found = describe(statement.choices[gold])
        raise BadRowError(
            "duplicate_gold",
            f"the choices {' and '.join(same)} are the same text, {found}, and the answer is "
            f"{statement.target}; no single letter is right",
        )


def describe(value: object) -> str:
    """The value for a message: ASCII only, at most 60 characters."""
    if isinstance(value, (list, tuple, dict)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if not isinstance(value, str):
        return "nothing" if value is None else ascii(value)[:60].lower()
    shown = value[:60] if isinstance(value, NumberText) else ascii(value[:60])
    return shown if len(shown) <= 60 else shown[:57] + "..."


def found_under(row: Row, key: str) -> str:
    """What the row has under the key, for a message: without the key, the names that it has."""
    return describe(row[key]) if key in row else f"no such field; {fields_of(row)}"


def fields_of(row: Row) -> str:
    """The names of a row's fields, for a message."""
    names = [describe(str(name)) for name in list(row)[:6]]
    more = f" and {len(row) - len(names)} more" if len(row) > len(names) else ""
    return f"the row has {', '.join(names)[:150]}{more}" if names else "the row is empty"


def read_text(row: Row, key: str, reason: str) -> str:
    """The text under the key, a number as the file writes it; missing or blank text is refused."""
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRowError(reason, f"expected text under {key!r}, found {found_under(row, key)}")
    return check_text(value, key, reason)


def read_label(row: Row, *keys: str) -> str:
    """The stripped text under the first of the keys that the row has; empty if it has none."""
    for key in keys:
        if not is_gap(row.get(key)):
            return check_text(row[key], key, "bad_text").strip()
    return ""


def is_gap(value: object) -> bool:
    """Whether the value is null, or the NaN that pandas has where a row lacks a value."""
    return value is None or isinstance(value, float)


def check_text(value: object, key: str, reason: str) -> str:
    """The value as a plain string that Arrow can hold, of at most MAX_TEXT_CHARS."""
    if isinstance(value, float):
        raise BadRowError("bad_number", f"{value} under {key!r} is not a JSON number")
    if not isinstance(value, str):
        raise BadRowError(reason, f"expected text under {key!r}, found {describe(value)}")
    if len(value) > MAX_TEXT_CHARS:
        detail = f"{key!r} has {len(value)} characters, expected at most {MAX_TEXT_CHARS}"
        raise BadRowError("too_long", detail)
    if "\0" in value:
        raise BadRowError("bad_text", f"{key!r} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        detail = f"{key!r} holds a lone surrogate at character {error.start}"
        raise BadRowError("bad_text", detail) from None
    return str(value)


def read_id(row: Row, key: str = "id") -> str | None:
    """The row's own id, percent-encoded, or None if the row has no such key.

    Everything but ASCII letters, digits and `_.-~` is encoded, and dots too in an id of nothing but
    dots. So the result is one path-safe word, and different ids stay different up to Unicode form,
    since NFC comes first. The text "7" and the number 7 are the same id.
    """
    if key not in row:
        return None
    value = row[key]
    is_number = isinstance(value, NumberText)
    if is_number:
        value = NumberText(value.removesuffix(".0"))  # a column of numbers with gaps has floats
    if not isinstance(value, str) or (is_number and not value.lstrip("-").isdigit()):
        raise BadRowError(
            "bad_id", f"expected text or an integer under {key!r}, found {describe(value)}"
        )
    if not value.strip() or len(value) > MAX_ID_CHARS:
        found = f"found {len(value)}: {describe(value)}"
        raise BadRowError(
            "bad_id", f"expected 1 to {MAX_ID_CHARS} characters under {key!r}, {found}"
        )
    if value.isascii() and value.replace("_", "").replace("-", "").isalnum():
        return str(value)
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value):
        raise BadRowError("bad_id", f"control characters under {key!r}: {describe(value)}")
    if not value.strip("."):
        return value.replace(".", "%2E")
    return quote(unicodedata.normalize("NFC", value), safe="")
