"""BIG-Bench Hard (suzgunmirac/BIG-Bench-Hard): one JSON object per task.

    {"canary": "...", "examples": [{"input": "Which is a fruit?\\nOptions:\\n(A) fig\\n(B) fog",
                                    "target": "(A)"}]}

A list `Options:` of lettered lines becomes the choices; the target must be one of its letters or
texts. Without one, a target of yes, no, true or false makes the row yes_no, a number numeric (as in
object_counting and multistep_arithmetic_two) and any other exact; the question stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orca2_gen.grading.numbers import parse_number
from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.formats.options import resolve_letter, strip_letters
from orca2_gen.tasks.rows import DocumentPart, document_list, document_object
from orca2_gen.tasks.statements import BadRowError, Row, Statement, read_id, read_text

YES_NO_WORDS = ("yes", "no", "true", "false")

_NUMBER = re.compile(r"[-+\u2212]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?", re.ASCII)
_OPTIONS = re.compile(r"\n[ \t]*Options:[ \t]*\n(\([A-Z]\)[^\n]*(?:\n\([A-Z]\)[^\n]*)+)\s*\Z")


def split_bbh(document: Row, file: TaskFile) -> Iterator[DocumentPart]:
    """The examples."""
    for index, example in enumerate(document_list(document, "examples")):
        row: Row | BadRowError
        try:
            row = document_object(example, "as an example")
        except BadRowError as error:
            row = error
        yield f":examples[{index}]", index, row


def read_bbh_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement, of the type that its target shows unless another is asked for."""
    question = read_text(row, "input", "no_question")
    target = read_text(row, "target", "no_answer").strip()
    choices: tuple[str, ...] = ()
    found = _OPTIONS.search(question)
    if found is not None and answer_type in (None, "multiple_choice"):
        choices = strip_letters(found[1].split("\n"))
        target = resolve_letter(target, choices, "target")
        question, answer_type = question[: found.start()].rstrip(), "multiple_choice"
    if answer_type is None:
        answer_type = _type_of(target)
    if answer_type == "list" and "," not in target:
        target = ", ".join(target.split())  # word_sorting separates its words with spaces
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type,
        choices=choices,
        source_id=read_id(row),
    )


def _type_of(target: str) -> AnswerType:
    if target.lower() in YES_NO_WORDS:
        return "yes_no"
    return "numeric" if _NUMBER.fullmatch(target) and parse_number(target) else "exact"
