"""CRASS (apergo-ai/CRASS-data-set): a CSV file with semicolons, the right answer first.

    BatchID;PCTID;Premise;QCC;CorrectAnswer;Answer1;Answer2;PossibleAnswer3
    1;4;A cup falls.;What if it had been caught?;It would be whole.;It would be red.;It would sing.;

The file puts the right answer before the wrong ones, so the choices are put in an order that
depends on the texts alone: the letters are balanced, and the same in every run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from hashlib import blake2b

from orca2_gen.grading.choices import LETTERS
from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.rows import SourceRow, decode_text, read_bytes, source_row
from orca2_gen.tasks.statements import BadRowError, Row, Statement, read_id, read_label, read_text

NEEDED = ("Premise", "QCC", "CorrectAnswer", "Answer1")
WRONG = ("Answer1", "Answer2", "Answer3", "PossibleAnswer3")


def read_semicolons(file: TaskFile) -> Iterator[SourceRow]:
    """One row per record; its place is the line on which the record ends."""
    try:
        text = decode_text(read_bytes(file))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=";", strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not set(NEEDED) <= set(header) or len(set(header)) < len(header):
            found = ", ".join(header)[:100]
            detail = f"expected the columns {', '.join(NEEDED)}, found {found!a}"
            raise BadRowError("wrong_format", detail)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield source_row(file, reader.line_num, _row(header, cells))
    except (BadRowError, csv.Error) as error:
        fault = error if isinstance(error, BadRowError) else _not_csv(reader.line_num, error)
        yield SourceRow(place=file.shown, key=file.key(None), row=fault, is_about_file=True)


def _not_csv(line: int, error: csv.Error) -> BadRowError:
    detail = f"no record can be told from the next after line {line} ({error}), and none is read"
    return BadRowError("not_csv", detail)


def _row(header: list[str], cells: list[str]) -> Row | BadRowError:
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        detail = f"expected {len(header)} columns, found {len(cells)}"
        return BadRowError("bad_columns", detail)
    return dict(zip(header, cells, strict=False))


def read_crass_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: multiple_choice."""
    premise = read_text(row, "Premise", "no_question").strip()
    asked = read_text(row, "QCC", "no_question").strip()
    right = read_text(row, "CorrectAnswer", "no_answer").strip()
    wrong = [text for text in (read_label(row, name) for name in WRONG) if text]
    choices = sorted([right, *wrong], key=lambda text: _order(premise, asked, text))
    numbers = [text for text in (read_label(row, "BatchID"), read_label(row, "PCTID")) if text]
    return Statement(
        question=f"{premise} {asked}",
        target=LETTERS[choices.index(right)],
        answer_type="multiple_choice",
        choices=tuple(choices),
        source_id=read_id({"id": "-".join(numbers)}) if numbers else None,
    )


def _order(premise: str, asked: str, text: str) -> bytes:
    return blake2b(f"{premise}\n{asked}\n{text}".encode()).digest()
