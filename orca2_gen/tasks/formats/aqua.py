"""AQuA-RAT (google-deepmind/AQuA): five options with their letters, a rationale, the gold letter.

    {"question": "A rope of 12 m is cut in 4. How long is a part?", "options": ["A)2 m", "B)3 m",
     "C)4 m", "D)6 m", "E)8 m"], "rationale": "12 / 4 = 3\\nAnswer: B", "correct": "B"}

The rationale is dropped: nothing may train on it.
"""

from __future__ import annotations

from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats.options import read_choices, resolve_printed, strip_letters
from orca2_gen.tasks.statements import Row, Statement, read_id, read_text


def read_aqua_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: multiple_choice."""
    choices = strip_letters(read_choices(row, "options"))
    return Statement(
        question=read_text(row, "question", "no_question"),
        target=resolve_printed(read_text(row, "correct", "no_answer"), choices, "correct"),
        answer_type="multiple_choice",
        choices=choices,
        source_id=read_id(row),
    )
