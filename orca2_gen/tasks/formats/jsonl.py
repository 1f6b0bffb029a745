"""Plain rows: a question and its gold answer, from JSONL, Parquet or a `datasets` directory.

    {"id": "sky-7", "question": "What pulls the tides?", "choices": ["wind", "moon"], "answer": "B"}

`question` and `answer` are required; `id`, `choices` (option texts without letters), `category` and
`sub_category` are optional. With choices the answer is a letter or an option's text, and becomes
the letter. A number counts as its text; for yes_no, JSON's true and false count as yes and no.
Columns with other names are mapped to these (columns.py).
"""

from __future__ import annotations

from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats.options import carry_letters, read_choices, resolve_letter
from orca2_gen.tasks.statements import (
    BadRowError,
    Row,
    Statement,
    describe,
    read_id,
    read_label,
    read_text,
)


def read_jsonl_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement; with no answer type, choices make it multiple_choice, else exact."""
    question = read_text(row, "question", "no_question")
    choices = read_choices(row, "choices") if row.get("choices") is not None else ()
    if answer_type is None:
        answer_type = "multiple_choice" if choices else "exact"
    answer = _read_answer(row, answer_type)
    if carry_letters(choices) and choices:
        detail = f"choices begin with their letters ({describe(choices[0])}); expected texts alone"
        raise BadRowError("bad_choices", detail)
    if answer_type == "multiple_choice" and choices:
        answer = resolve_letter(answer, choices, "answer")
    return Statement(
        question=question,
        target=answer,
        answer_type=answer_type,
        choices=choices,
        category=read_label(row, "category"),
        sub_category=read_label(row, "sub_category"),
        source_id=read_id(row),
    )


def _read_answer(row: Row, answer_type: AnswerType) -> str:
    found = row.get("answer")
    if answer_type == "yes_no" and isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, (bool, list, dict)):
        raise BadRowError(
            "bad_answer", f"expected text or a number under 'answer', found {describe(found)}"
        )
    return read_text(row, "answer", "no_answer").strip()
