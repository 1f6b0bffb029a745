"""GSM8K (openai/grade-school-math): a worked solution whose last line is `#### N`.

    {"question": "What do 400 pens cost at $3?", "answer": "3*400=$<<3*400=1200>>1200\\n#### 1,200"}

The target is the number after the last `####`, without thousands commas; the solution and its
<<a*b=c>> marks (written for a calculator) are not kept: nobody may train on them.
"""

from __future__ import annotations

from orca2_gen import numerals
from orca2_gen.records import AnswerType
from orca2_gen.tasks.rows import BadRowError, Row, Statement, describe, read_id, read_text

MARK = "####"


def read_gsm8k_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """Returns what the row states; numeric unless another answer type is asked for."""
    if answer_type == "multiple_choice":
        raise ValueError(
            "format 'gsm8k' with answer_type 'multiple_choice': its rows have no choices; "
            "set answer_type to 'numeric' or leave it out"
        )
    question = read_text(row, "question", "no_question")
    solution = read_text(row, "answer", "no_answer")
    _, mark, last = solution.rpartition(MARK)
    target = last.strip().replace(",", "")
    if not mark or numerals.parse_number(last) is None:
        found = describe(last.strip()[-40:])
        raise BadRowError("bad_answer", f"expected 'answer' to end with '{MARK} N', found {found}")
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type or "numeric",
        source_id=read_id(row),
    )
