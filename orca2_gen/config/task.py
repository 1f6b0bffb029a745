"""The keys of one task in a config file, and which tasks exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from orca2_gen.config.section import FROM_LIST, Language, License, Name, PathText, Section
from orca2_gen.records import AnswerType
from orca2_gen.tasks.columns import ANSWERS, Columns, check_columns
from orca2_gen.tasks.source import TaskSource, check_source

NumExamples = Annotated[int, Field(ge=1, le=16)]


STATED = frozenset({"license", "language"})
"""Keys of a task that the dataset's card repeats, and no row depends on."""

TaskFormat = Literal[
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


class TaskConfig(Section):
    """One task: files of problems in a published format."""

    name: Name
    """Name of the task, unique in the config; part of problem ids and of file names."""
    format: TaskFormat
    """Format of the files."""
    path: PathText
    """File in the format, directory of such files, or directory that `datasets.save_to_disk`
    wrote."""
    split: Name = "train"
    """Name of the split; part of problem ids."""
    answer_type: AnswerType | None = None
    """How an answer is compared with the gold answer. If not set, as the format says."""
    columns: dict[str, str | Annotated[tuple[str, ...], FROM_LIST]] = Field(default_factory=dict)
    """Names in jsonl, parquet and datasets files of `question`, `answer` (or `answer_index`,
    counted from 0, or `answer_number`, from 1), `choices`, `messages` (a chat, in place of question
    and answer), `id`, `category` and `sub_category`, e.g.
    `{ question = "prompt", answer = "label" }`. A dot leads into a column (`a.b`, `a.0`); several
    columns make one question, or the choices."""
    rows_per_task: int | None = Field(None, ge=1)
    """Rows in a seeded sample of the task; in a mixture (flan, natural_instructions) of each task
    in it. If not set, all rows."""
    rows_per_category: int | None = Field(None, ge=1)
    """Rows in a seeded sample of each category, from what rows_per_task leaves. If not set, all of
    them."""
    sample_seed: int = Field(0, ge=0)
    """Seed of the samples and of the worked examples. It is not run_seed, so that runs with other
    seeds work on the same problems."""
    few_shot: Annotated[tuple[NumExamples, NumExamples], FROM_LIST] | None = Field(
        None, examples=[[3, 5]]
    )
    """Fewest and most worked examples before each question, e.g. `[3, 5]`. They are other problems
    of the same task (in a mixture, of the same task in it), category and answer type, drawn with
    sample_seed. If not set, no examples."""

    license: License | None = None
    """License of the files, as an SPDX or Hugging Face name, for the dataset's card. If not set,
    the card says that it is not stated."""
    language: Language | None = None
    """Language of the files, e.g. `"en"`, for the dataset's card, which names one only if all tasks
    do."""

    @field_validator("few_shot")
    @classmethod
    def _least_comes_first(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(
                f"expected the least and then the most examples, found {list(value)}; swap them"
            )
        return value

    @field_validator("columns")
    @classmethod
    def _columns_make_a_row(cls, columns: Columns) -> Columns:
        if columns:
            check_columns(columns)
        is_asked = "question" in columns and set(ANSWERS) & set(columns)
        if columns and not is_asked and "messages" not in columns:
            raise ValueError(
                "they take the place of the usual names, so they must say which column is the "
                "question and which the answer; add `question` and `answer` (or `answer_index`), "
                "or `messages`"
            )
        return columns

    @model_validator(mode="after")
    def _format_takes_the_keys(self) -> TaskConfig:
        check_source(TaskSource(**self.model_dump(exclude={"path", *STATED}), path=Path(self.path)))
        return self


def check_held_out(tasks: Sequence[TaskConfig], held_out: Sequence[TaskConfig]) -> None:
    """Checks that no held-out row can become an example or be given one.

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
