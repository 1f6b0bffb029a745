"""RACE: a tree of files, each one JSON object with a passage and its questions.

    high/12.txt: {"id": "high12.txt", "article": "Ann has a hen. ...", "questions": ["What has
                  Ann?"], "options": [["a dog", "a hen", "a cat", "a cow"]], "answers": ["B"]}

Exports with one question per row (`article`, `question`, `options`, `answer`) are read too.
The category is `high` or `middle`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.formats.options import read_choices, resolve_letter, without_letters
from orca2_gen.tasks.rows import DocumentPart, document_list
from orca2_gen.tasks.statements import BadRowError, Row, Statement, read_id, read_label, read_text

_LEVEL = re.compile(r"(high|middle)", re.IGNORECASE)


def split_race(document: Row, file: TaskFile) -> Iterator[DocumentPart]:
    """The questions, each with the passage."""
    lists = [document_list(document, key) for key in ("questions", "options", "answers")]
    if len({len(found) for found in lists}) > 1:
        counts = " and ".join(str(len(found)) for found in lists)
        detail = f"expected as many questions as options and answers, found {counts}"
        raise BadRowError("wrong_format", detail)
    article = document.get("article")
    name = document.get("id")
    for index, (question, options, answer) in enumerate(zip(*lists, strict=True)):
        row = {"article": article, "question": question, "options": options, "answer": answer}
        if isinstance(name, str) and name:
            row |= {"example_id": name, "id": f"{name}-{index}"}
        yield f":questions[{index}]", index, row


def read_race_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: multiple_choice."""
    choices = without_letters(read_choices(row, "options"))
    article = read_text(row, "article", "no_question").strip()
    question = read_text(row, "question", "no_question").strip()
    level = _LEVEL.match(read_label(row, "example_id"))
    return Statement(
        question=f"{article}\n\n{question}",
        target=resolve_letter(read_text(row, "answer", "no_answer"), choices, "answer"),
        answer_type="multiple_choice",
        choices=choices,
        category=level[1].lower() if level else "",
        source_id=read_id(row),
    )
