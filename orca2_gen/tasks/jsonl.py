"""Plain JSONL: one object per line, a question and its gold answer.

    {"id": "sky-7", "question": "What pulls the tides?", "choices": ["wind", "moon"], "answer": "B"}

`question` and `answer` are needed; `id`, `choices` (option texts without letters) and `category`
are not. With choices the answer is a letter or an option's text, and becomes the letter. A number
counts as its text.
"""

from __future__ import annotations

from orca2_gen import grading, numerals
from orca2_gen.records import AnswerType
from orca2_gen.tasks.rows import (
    MAX_TEXT_CHARS,
    BadRowError,
    Row,
    Statement,
    check_text,
    describe,
    read_id,
    read_text,
)


def read_jsonl_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """Returns what the row states; with no answer type, choices make it multiple_choice."""
    question = read_text(row, "question", "no_question")
    answer = _read_answer(row)
    choices = _read_choices(row)
    if answer_type is None:
        answer_type = "multiple_choice" if choices else "exact"
    if (answer_type == "multiple_choice") != bool(choices):
        found = f"{len(choices)} choices"
        raise BadRowError(
            "bad_choices", f"expected choices iff multiple_choice: {answer_type}, {found}"
        )
    num_chars = len(question) + sum(map(len, choices))
    if num_chars > MAX_TEXT_CHARS:
        detail = (
            f"question and choices have {num_chars} characters, expected at most {MAX_TEXT_CHARS}"
        )
        raise BadRowError("too_long", detail)
    if answer_type == "multiple_choice":
        answer = _resolve_letter(answer, choices)
    elif answer_type == "numeric" and numerals.parse_number(answer) is None:
        raise BadRowError(
            "bad_answer", f"expected a number under 'answer', found {describe(answer)}"
        )
    category = row.get("category")
    return Statement(
        question=question,
        target=answer,
        answer_type=answer_type,
        choices=choices,
        category="" if category is None else check_text(category, "category", "bad_text").strip(),
        source_id=read_id(row),
    )


def _read_answer(row: Row) -> str:
    if isinstance(row.get("answer"), (bool, list, dict)):
        found = describe(row["answer"])
        raise BadRowError("bad_answer", f"expected text or a number under 'answer', found {found}")
    return read_text(row, "answer", "no_answer").strip()


def _read_choices(row: Row) -> tuple[str, ...]:
    found = row.get("choices")
    if found is None:
        return ()
    if not isinstance(found, list) or not 2 <= len(found) <= len(grading.LETTERS):
        raise BadRowError(
            "bad_choices",
            f"expected a list of 2 to {len(grading.LETTERS)} texts under 'choices', "
            f"found {describe(found)}",
        )
    choices = tuple(check_text(choice, "choices", "bad_choices").strip() for choice in found)
    if not all(choices):
        raise BadRowError("bad_choices", "one of the choices is blank")
    if len({grading.normalise(choice) for choice in choices}) < len(choices):
        raise BadRowError(
            "bad_choices", "two of the choices are the same text, so no letter is the answer"
        )
    if all(
        choice.lstrip("(")[:2] in (f"{x})", f"{x}.", f"{x}:")
        for x, choice in zip(grading.LETTERS, choices, strict=False)
    ):
        detail = f"choices carry their letters ({describe(choices[0])}); expected the texts alone"
        raise BadRowError("bad_choices", detail)
    return choices


def _resolve_letter(answer: str, choices: tuple[str, ...]) -> str:
    """Returns the letter that the answer names; refuses one option's letter and another's text."""
    letters = grading.LETTERS[: len(choices)]
    named = {
        letters[i]
        for i, choice in enumerate(choices)
        if grading.normalise(choice) == grading.normalise(answer)
    }
    if len(answer) == 1 and answer.upper() in letters:
        named.add(answer.upper())
    if len(named) != 1:
        expected = f"one letter of {letters[0]} to {letters[-1]} or one option's text"
        raise BadRowError(
            "bad_answer", f"expected {expected} under 'answer', found {describe(answer)}"
        )
    return named.pop()
