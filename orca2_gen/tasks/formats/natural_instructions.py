"""Super-NaturalInstructions v2 (allenai/natural-instructions): one JSON object per task.

    task001_x.json: {"Definition": ["Say what rhymes."], "Categories": ["Rhymes"],
                     "Positive Examples": [...], "Instances": [{"id": "task001-a", "input": "cat",
                                                                "output": ["hat", "bat"]}]}

The question is the definition and the input; the first output is the target, and the others count
as well. The file's own examples are dropped. The category is the first of the file's categories,
the sub_category the file's name.
"""

from __future__ import annotations

from collections.abc import Iterator

from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.rows import DocumentPart, document_list, document_object
from orca2_gen.tasks.statements import (
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


def split_natural_instructions(document: Row, file: TaskFile) -> Iterator[DocumentPart]:
    """The instances, each with the task's definition, category and name."""
    shared = {
        "definition": _text_or_texts(document, "Definition"),
        "category": _first_category(document),
        "task": file.stem,
    }
    for index, instance in enumerate(document_list(document, "Instances")):
        row: Row | BadRowError
        try:
            found = document_object(instance, "as an instance")
            row = {name: found[name] for name in ("id", "input", "output") if name in found}
            row = row | shared
        except BadRowError as error:
            row = error
        yield f":Instances[{index}]", index, row


def read_natural_instructions_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: exact unless another answer type is asked for."""
    asked = row.get("input")
    given = "" if asked is None else check_text(asked, "input", "bad_text").strip()
    definition = read_text(row, "definition", "no_question").strip()
    name = read_label(row, "task")
    target, *others = _targets(row)
    return Statement(
        question=f"{definition}\n\n{given}" if given else definition,
        target=target,
        other_targets=tuple(others),
        answer_type=answer_type or "exact",
        category=read_label(row, "category"),
        sub_category=name,
        source_task=name,
        source_id=read_id(row),
    )


def _targets(row: Row) -> list[str]:
    """The outputs, each once, without blank ones."""
    output = row.get("output")
    texts = output if isinstance(output, list) else [output]
    if "output" not in row:
        raise BadRowError("no_answer", f"expected 'output', found {found_under(row, 'output')}")
    found = [check_text(text, "output", "no_answer").strip() for text in texts]
    targets = [text for text in dict.fromkeys(found) if text]
    if not targets:
        raise BadRowError("no_answer", f"expected text under 'output', found {describe(output)}")
    return targets


def _text_or_texts(document: Row, key: str) -> str:
    """The text, which version 1 wrote as a string and version 2 as a list."""
    value = document.get(key)
    texts = value if isinstance(value, list) else [value]
    found = [text.strip() for text in texts if isinstance(text, str)]
    if not found or len(found) < len(texts):
        detail = (
            f"expected a text or a list of texts under {key!r}, found {describe(value)}; "
            "check the format"
        )
        raise BadRowError("wrong_format", detail)
    return "\n".join(found)


def _first_category(document: Row) -> str:
    value = document.get("Categories")
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else ""
