"""The keys of one task in a config file, and what tasks may not be together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from orca2_gen.config.section import Name, Section
from orca2_gen.records import AnswerType

NumExamples = Annotated[int, Field(ge=1, le=16)]


class TaskConfig(Section):
    """One task: files of problems in a published format."""

    name: Name
    format: Literal[
        "jsonl",
        "parquet",
        "datasets",
        "gsm8k",
        "flan",
        "natural_instructions",
        "aqua",
        "agieval",
        "math",
        "bbh",
        "deepmind_mathematics",
        "drop",
        "race",
        "crass",
    ]
    path: str
    """A file, or a directory of files in the format, or one that `datasets.save_to_disk` wrote."""
    split: Name = "train"
    answer_type: AnswerType | None = None
    """None takes the format's own."""
    columns: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Of jsonl, parquet and datasets: what question, answer (or answer_index, from 0), choices, id,
    category and sub_category are called there, e.g. { question = "prompt", answer = "label" }. A
    dot leads into a column; several columns make one question, or the choices."""
    rows_per_task: int | None = Field(None, ge=1)
    """A seeded sample of so many rows; in a mixture (flan, natural_instructions) of each of its
    tasks. None reads them all."""
    rows_per_category: int | None = Field(None, ge=1)
    """The same of every category, from what rows_per_task leaves."""
    sample_seed: int = Field(0, ge=0)
    """Of these samples; its own, so that runs with other seeds work on the same problems."""
    few_shot: tuple[NumExamples, NumExamples] | None = None
    """The least and the most worked examples that stand before each question; None is zero-shot.
    They are other problems of the same task (in a mixture, of the same one of its tasks), category
    and answer type, drawn with sample_seed."""

    @field_validator("few_shot")
    @classmethod
    def _least_comes_first(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(
                f"expected the least number of examples and then the most, found {list(value)}; "
                "swap them"
            )
        return value


def check_held_out(tasks: Sequence[TaskConfig], held_out: Sequence[TaskConfig]) -> None:
    """Returns if no held-out row can be an example, nor get any.

    Raises:
        ValueError: one line that names the tasks.
    """
    for task in held_out:
        if task.few_shot is not None:
            raise ValueError(
                f"evaluation.tasks: {task.name!r} has few_shot; held-out problems are asked "
                "without examples, so take the key out"
            )
    names = {task.path: task.name for task in held_out}
    for task in tasks:
        if task.few_shot is not None and task.path in names:
            raise ValueError(
                f"tasks: {task.name!r} has few_shot and reads {task.path}, which is "
                f"{names[task.path]!r} of evaluation.tasks too; examples come from training "
                "files only, so give it another file, or take few_shot out"
            )
