"""GSM8K (openai/grade-school-math): a worked solution whose last line is `#### N`.

    {"question": "What do 400 pens cost at $3?", "answer": "3*400=$<<3*400=1200>>1200\\n#### 1,200"}

The target is the number after the last `####`, without thousands commas; the solution and its
<<a*b=c>> marks (written for a calculator) are dropped: nothing may train on them.
"""

from __future__ import annotations

from orca2_gen.grading.numbers import parse_number
from orca2_gen.records import AnswerType
from orca2_gen.tasks.statements import BadRowError, Row, Statement, describe, read_id, read_text

ANSWER_MARK = "####"


def read_gsm8k_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: numeric unless another answer type is asked for."""
    question = read_text(row, "question", "no_question")
    solution = read_text(row, "answer", "no_answer")
    _, mark, last = solution.rpartition(ANSWER_MARK)
    target = last.strip().replace(",", "")
    number, plain = parse_number(last), parse_number(target)
    # A comma separates thousands here and nothing else: 1,2 is neither 12 nor 1.2.
    if not mark or number is None or plain is None or number.value != plain.value:
        found = describe(last.strip()[-40:])
        raise BadRowError(
            "bad_answer", f"expected 'answer' to end with '{ANSWER_MARK} N', found {found}"
        )
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type or "numeric",
        source_id=read_id(row),
    )
