"""DeepMind mathematics (google-deepmind/mathematics_dataset): text files of lines in pairs.

    train-easy/algebra__linear_1d.txt:
        Solve 4*b + 5 = 1 for b.
        -1

A file is a module: its name up to the two underscores is the category, the rest the sub_category. A
blank question line before an answer line is a pair without a question, since skipping it would
shift every later pair by one line.
"""

from __future__ import annotations

from collections.abc import Iterator

from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.rows import SourceRow, decode_text, numbered_lines, source_row
from orca2_gen.tasks.statements import BadRowError, Row, Statement, read_label, read_text


def read_pairs(file: TaskFile) -> Iterator[SourceRow]:
    """One row per question line and answer line; its place is the question's line."""
    lines = numbered_lines(file)
    for number, question in lines:
        _, answer = next(lines, (number + 1, b""))
        if not (_is_blank(question) and _is_blank(answer)):
            yield source_row(file, number, _pair(file, question, answer))


def _is_blank(line: bytes | BadRowError) -> bool:
    return isinstance(line, bytes) and not line.strip()


def _pair(
    file: TaskFile, question: bytes | BadRowError, answer: bytes | BadRowError
) -> Row | BadRowError:
    for line in (question, answer):
        if isinstance(line, BadRowError):
            return line
    assert isinstance(question, bytes) and isinstance(answer, bytes)
    try:
        row = {"question": decode_text(question), "answer": decode_text(answer)}
    except BadRowError as error:
        return error
    return row | {"module": file.stem}


def read_deepmind_mathematics_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: mathematics, or list where the module sorts, unless a type is asked."""
    area, _, module = read_label(row, "module").partition("__")
    return Statement(
        question=read_text(row, "question", "no_question").strip(),
        target=read_text(row, "answer", "no_answer").strip(),
        # As formulas, numbers in another order are the same set.
        answer_type=answer_type or ("list" if module.startswith("sort") else "mathematics"),
        category=area if module else "",
        sub_category=module,
    )
