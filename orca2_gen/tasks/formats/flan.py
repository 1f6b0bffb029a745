"""FLAN v2 (and exports of it): a filled-in template and the task that it comes from.

    {"inputs": "Is it true that snow is warm?\\nOPTIONS:\\n- yes\\n- no", "targets": "no",
     "_task_name": "snow_facts:1.0.0", "_task_source": "Flan2021", "_template_type": "zs_opt"}

Exports name the last three with or without the underscore. A list `OPTIONS:` at the end of a
zero-shot input becomes the choices if the target is one of them; every other input, including
few-shot ones, stays as it is, and its answer is exact. A file mixes tasks: sub_category is the
task's name and category its source, unless a taxonomy lists the task.
"""

from __future__ import annotations

import re

from orca2_gen.grading.answers import normalise
from orca2_gen.grading.choices import LETTERS
from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats.option_letters import complete_marks
from orca2_gen.tasks.formats.options import without_letters
from orca2_gen.tasks.statements import Row, Statement, read_id, read_label, read_text

_OPTIONS = re.compile(r"(?:^|\n)[ \t]*OPTIONS:[ \t]*\n((?:- [^\n]*(?:\n|$))+)")


def read_flan_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: multiple_choice if its options can be lifted, else exact."""
    question = read_text(row, "inputs", "no_question")
    target = read_text(row, "targets", "no_answer").strip()
    template = read_label(row, "_template_type", "template_type")
    choices: tuple[str, ...] = ()
    if answer_type in (None, "multiple_choice") and not template.startswith("fs"):
        lifted = _lift_options(question, target)
        if lifted is not None:
            question, target, choices = lifted
    name = read_label(row, "_task_name", "task_name", "task")
    return Statement(
        question=question,
        target=target,
        answer_type=answer_type or ("multiple_choice" if choices else "exact"),
        choices=choices,
        category=read_label(row, "_task_source", "task_source"),
        sub_category=name,
        source_task=name,
        source_id=read_id(row),
    )


def _lift_options(question: str, target: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Question, letter and choices, or None if the text leaves them uncertain.

    The list must be the only one and end the input.
    """
    found = _OPTIONS.search(question)
    # After a list in the middle of the input, the next line may be the rest of an option.
    if found is None or question[found.end() :].strip() or question.count("OPTIONS:") > 1:
        return None
    choices = tuple(line[2:].strip() for line in found[1].splitlines())
    texts = [normalise(choice) for choice in choices]
    if not 2 <= len(choices) <= len(LETTERS) or not all(choices):
        return None
    if texts.count(normalise(target)) != 1 or not question[: found.start()].strip():
        return None
    index = texts.index(normalise(target))
    marks = complete_marks(choices)
    letter = LETTERS[index] if marks is None else marks[index][0]
    return question[: found.start()].rstrip(), letter, without_letters(choices)
