"""Plain rows: a question and its gold answer, from JSONL, Parquet or a `datasets` directory.

    {"id": "sky-7", "question": "What pulls the tides?", "choices": ["wind", "moon"], "answer": "B"}

`question` and `answer` are required; `id`, `choices` (option texts without letters), `category` and
`sub_category` are optional. With choices the answer is a letter, a label or an option's text, and
becomes the letter; `answer_index` counts them from 0 instead, `answer_number` from 1. A chat under
`messages` or `conversations` takes the place of question and answer (chats.py).

A JSON number as gold makes the row numeric if no type is asked for, since 43, 43.0 and 4.3e1 are
one number in JSON, and pandas writes 43.0 for 43. For yes_no, JSON's true and false count as yes
and no. Columns with other names are mapped to these (columns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca2_gen.grading.numbers import parse_number
from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats.chats import CHAT_KEYS, read_chat
from orca2_gen.tasks.formats.labelled_choices import (
    Choices,
    letter_of_answer,
    letter_of_index,
    read_labelled_choices,
)
from orca2_gen.tasks.statements import (
    BadRowError,
    NumberText,
    Row,
    Statement,
    describe,
    is_gap,
    read_id,
    read_label,
    read_text,
)

_COUNTED = {"answer_index": 0, "answer_number": 1}
"""Key of a place among the choices -> the number of the first."""
_OTHER_NAMES = ("options", "endings")
"""What published files call their choices."""


def read_jsonl_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement.

    With no answer type, choices make it multiple_choice, a number numeric, anything else exact.
    """
    row = _with_chat(row)
    question = read_text(row, "question", "no_question")
    choices = read_labelled_choices(row, "choices")
    _check_no_options(row, choices)
    if answer_type is None and choices.texts:
        answer_type = "multiple_choice"
    if answer_type == "multiple_choice" and choices.texts:
        target = _read_letter(row, choices)
    elif is_gap(row.get("answer")) and any(not is_gap(row.get(key)) for key in _COUNTED):
        detail = "the answer counts choices, and the row has none to choose from"
        raise BadRowError("bad_choices", detail)
    else:
        answer = _read_answer(row, answer_type)
        target = _plain(answer)
        answer_type = answer_type or _type_of(answer)
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type,
        choices=choices.texts,
        category=read_label(row, "category"),
        sub_category=read_label(row, "sub_category"),
        source_id=read_id(row),
    )


def _with_chat(row: Row) -> Row:
    """The row with the question, and if it has none the answer, of its chat."""
    key = next((key for key in CHAT_KEYS if not is_gap(row.get(key))), None)
    if key is None or not is_gap(row.get("question")):
        return row
    question, reply = read_chat(row[key], key)
    has_answer = any(not is_gap(row.get(name)) for name in ("answer", *_COUNTED))
    if reply is None and not has_answer:
        detail = f"the chat under {key!r} ends with the user's message, and there is no 'answer'"
        raise BadRowError("no_answer", detail)
    return {**row, "question": question} | ({} if has_answer else {"answer": reply})


def _check_no_options(row: Row, choices: Choices) -> None:
    """Refuses a row whose options have another name: without them it asks something else."""
    for key in () if choices.texts else _OTHER_NAMES:
        if isinstance(row.get(key), (list, dict)) and row[key]:
            raise BadRowError(
                "no_choices",
                f"the row has {key!r} and no 'choices'; map its columns, e.g. choices = {key!r}, "
                "question = 'question', answer = 'answer'",
            )


def _read_letter(row: Row, choices: Choices) -> str:
    has_answer = not is_gap(row.get("answer"))
    letters = {
        letter_of_index(_only(row[key], key), choices, first=first)
        for key, first in _COUNTED.items()
        if key in row and not (has_answer and is_gap(row[key]))
    }
    if has_answer or not letters:
        letters.add(letter_of_answer(_read_answer(row, "multiple_choice"), choices))
    if len(letters) > 1:
        named = " and ".join(sorted(letters))
        raise BadRowError("bad_answer", f"the row's answers name several choices: {named}")
    return letters.pop()


def _read_answer(row: Row, answer_type: AnswerType | None) -> str:
    """The gold answer; a number stays a `NumberText`."""
    found = row.get("answer")
    if answer_type == "list" and isinstance(found, list) and len(found) > 1:
        return _listed(found)
    found = _only(found, "answer")
    if answer_type == "yes_no" and isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, (bool, list, dict)):
        raise BadRowError(
            "bad_answer", f"expected text or a number under 'answer', found {describe(found)}"
        )
    asked = row if found is None else {**row, "answer": found}
    text = read_text(asked, "answer", "no_answer").strip()
    return NumberText(text) if isinstance(found, NumberText) else text


def _only(found: Any, key: str) -> Any:
    """The one value of a list, each of its values counted once; any other value is itself."""
    if not isinstance(found, list) or not found:
        return found
    if any(value != found[0] for value in found):
        raise BadRowError(
            "several_answers",
            f"expected one answer under {key!r}, found {describe(found)}; map one of them, e.g. "
            f"{key} = '{key}.0'",
        )
    return found[0]


def _listed(items: Sequence[Any]) -> str:
    """The gold of a list: its items with commas between them."""
    if not all(isinstance(item, str) and item.strip() and "," not in item for item in items):
        detail = "expected items that are texts without commas under 'answer', for a list"
        raise BadRowError("bad_answer", detail)
    return ", ".join(item.strip() for item in items)


def _type_of(answer: str) -> AnswerType:
    is_number = isinstance(answer, NumberText) and parse_number(answer) is not None
    return "numeric" if is_number else "exact"


def _plain(answer: str) -> str:
    """The text of the answer; a whole number that was made a float is a whole number again."""
    if isinstance(answer, NumberText):
        whole = answer.removesuffix(".0")
        return str(whole if whole.lstrip("-").isdigit() else answer)
    return answer
