"""DROP (allenai): one JSON object that maps a passage's id to the passage and its questions.

    {"nfl_7": {"passage": "The Bears kicked goals of 20 and 31 yards.", "qa_pairs": [
        {"query_id": "q-1", "question": "How many goals?", "answer": {"number": "2", "spans": [],
         "date": {"day": "", "month": "", "year": ""}}, "validated_answers": []}]}}

A number makes the row numeric; spans, or a date (day, month, year), make it span. Several spans are
one gold answer with a line for each: DROP's rule pairs them in any order (text_overlap.span_f1).
Validated answers of the same kind count as well. Exports with one question per row, each with its
passage, are read too. The category is the id without its number: nfl, history.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orca2_gen.grading.numbers import parse_number
from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.rows import DocumentPart, document_object
from orca2_gen.tasks.statements import (
    MAX_TARGETS,
    BadRowError,
    Row,
    Statement,
    check_text,
    describe,
    found_under,
    read_id,
    read_label,
    read_text,
)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")

GoldAnswer = tuple[AnswerType, str]
"""A kind and a gold answer of that kind."""


def split_drop(document: Row, file: TaskFile) -> Iterator[DocumentPart]:
    """The questions, each with its passage; a malformed passage is one bad row."""
    index = 0
    for number, (name, found) in enumerate(document.items()):
        way = f":{name}" if _PLAIN_NAME.fullmatch(name) else f":[{number}]"
        pairs = found.get("qa_pairs") if isinstance(found, dict) else None
        if not isinstance(pairs, list):
            detail = f"expected a passage with 'qa_pairs', found {describe(found)}"
            yield way, index, BadRowError("wrong_format", detail)
            index += 1
            continue
        for position, pair in enumerate(pairs):
            row: Row | BadRowError
            try:
                shared = {"passage": found.get("passage"), "section_id": name}
                row = {**document_object(pair, "as a question"), **shared}
            except BadRowError as error:
                row = error
            yield f"{way}.qa_pairs[{position}]", index, row
            index += 1


def read_drop_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement, of its gold answer's kind unless another answer type is asked for."""
    passage = read_text(row, "passage", "no_question").strip()
    question = read_text(row, "question", "no_question").strip()
    gold = _read_answer(row.get("answer"))
    if gold is None:
        found = found_under(row, "answer")
        raise BadRowError(
            "no_answer", f"expected number, date or spans under 'answer', found {found}"
        )
    kind, target = gold
    golds = [target]
    for validated in _validated(row.get("validated_answers")):
        other = _read_answer(validated)
        if other is not None and other[0] == kind:
            golds.append(other[1])
    others = tuple(dict.fromkeys(golds[:MAX_TARGETS]))[1:]
    section = read_label(row, "section_id")
    area, _, number = section.rpartition("_")
    return Statement(
        question=f"{passage}\n\n{question}",
        target=target,
        other_targets=others,
        answer_type=answer_type or kind,
        category=area if number.isdigit() else "",
        source_id=read_id(row, "query_id") if row.get("query_id") else read_id(row),
    )


def _read_answer(answer: object) -> GoldAnswer | None:
    """The gold answer, or None if nothing is filled in."""
    if not isinstance(answer, Mapping):
        return None
    number = read_label(answer, "number")
    if number and parse_number(number) is not None:
        return "numeric", number
    found = answer.get("spans")
    spans = [
        " ".join(check_text(span, "spans", "bad_answer").split())
        for span in (found if isinstance(found, list) else [])
    ]
    if number:
        spans = [number]  # words: the grader reads no number in `two`
    if not any(spans):
        date = answer.get("date")
        parts = ("day", "month", "year") if isinstance(date, dict) else ()
        spans = [" ".join(filter(None, (read_label(date or {}, part) for part in parts)))]
    text = "\n".join(span for span in dict.fromkeys(spans) if span)
    return ("span", text) if text else None


def _validated(found: Any) -> list[Any]:
    """The validated answers; Parquet exports keep them as one object of lists."""
    if isinstance(found, dict):
        columns = {key: value for key, value in found.items() if isinstance(value, list)}
        length = max(map(len, columns.values()), default=0)
        return [
            {key: value[i] for key, value in columns.items() if i < len(value)}
            for i in range(length)
        ]
    return found if isinstance(found, list) else []
