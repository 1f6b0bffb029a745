"""AGIEval (ruixiangcui/AGIEval, data/v1): exam questions, most with lettered options.

    {"passage": "Four sheds stand in a row.", "question": "Which is first?", "options": ["(A)red",
     "(B)blue"], "label": "A", "answer": null, "other": null}

The passage goes before the question; it may be null, blank or absent. The cloze subsets (math,
gaokao-mathcloze) have no options, and `answer` holds the gold answer. A label is a letter or a list
of letters (jec-qa, gaokao-physics): a list of one counts as the letter, a longer one is rejected as
`several_answers`. Some options have lost or swapped their letters: see `strip_letters`.
"""

from __future__ import annotations

from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats.options import read_choices, resolve_printed, strip_letters
from orca2_gen.tasks.statements import (
    BadRowError,
    Row,
    Statement,
    check_text,
    describe,
    read_id,
    read_label,
    read_text,
)


def read_agieval_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: multiple_choice, or mathematics if there are no options."""
    question = read_text(row, "question", "no_question")
    passage = row.get("passage")
    if passage is not None and check_text(passage, "passage", "bad_text").strip():
        question = f"{passage.strip()}\n\n{question.strip()}"
    other = row.get("other")
    labels = other if isinstance(other, dict) else {}
    choices: tuple[str, ...] = ()
    if row.get("options"):
        choices = strip_letters(read_choices(row, "options"))
        target = resolve_printed(_only_label(row), choices, "label")
    else:
        target = read_text(row, "answer", "no_answer").strip()
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type or ("multiple_choice" if choices else "mathematics"),
        choices=choices,
        category=read_label(labels, "type"),
        source_id=read_id(row),
    )


def _only_label(row: Row) -> str:
    label = row.get("label")
    if not isinstance(label, list):
        return read_text(row, "label", "no_answer")
    if len(label) > 1:
        detail = f"expected one letter under 'label', found {describe(label)}"
        raise BadRowError("several_answers", detail)
    return read_text({"label": label[0] if label else None}, "label", "no_answer")
