"""The keys that say which rows of the tasks are copies and what becomes of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca2_gen.config.section import FROM_LIST, Name, PathText, Section
from orca2_gen.config.task import TaskConfig, TaskFormat
from orca2_gen.records import AnswerType

_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class HeldOutFile(Section):
    """A file of problems that the dataset must not hold, e.g. a benchmark's test file."""

    path: PathText
    """File in the format, directory of such files, or directory that `datasets.save_to_disk`
    wrote."""
    format: TaskFormat
    """Format of the files, as of a task."""
    name: Name | None = None
    """Name of the file in rejections. If not set, that of the path, without its ending."""
    split: Name = "test"
    """Name of the split; part of problem ids in rejections."""
    answer_type: AnswerType | None = None
    """As of a task."""
    columns: dict[str, str | Annotated[tuple[str, ...], FROM_LIST]] = Field(default_factory=dict)
    """As of a task."""

    @property
    def task(self) -> TaskConfig:
        """The task that reads the file."""
        name = self.name or _NO_NAME.sub("-", Path(self.path).stem).lstrip("_.-")[:64]
        return TaskConfig(name=name or "file", **self.model_dump(exclude={"name"}))

    @model_validator(mode="after")
    def _can_be_read(self) -> HeldOutFile:
        assert self.task
        return self


class DecontaminateConfig(Section):
    """Decontamination rejects rows of the tasks that repeat another row or a held-out one. On in
    new runs; without this section, a run that an older version began goes on without it.
    """

    duplicates: bool = True
    """Whether a row is rejected whose question, choices and gold answer are those of a row with a
    smaller problem id, in its task or another."""
    contamination: bool = True
    """Whether a row is rejected whose question, choices and gold answer are those of a row of
    `[[evaluation.tasks]]` or `[[decontaminate.files]]`, also where it names other people."""
    near: Literal["ignore", "report", "remove"] = "report"
    """What becomes of a row that differs from another, or from a held-out one, in a few words while
    numbers, choices and gold answer agree: `"report"` counts it and names its partner in
    RUN/near_duplicates.jsonl, `"remove"` rejects it."""
    files: Annotated[tuple[HeldOutFile, ...], FROM_LIST] = ()
    """Files of held-out problems beside those of evaluation."""

    @property
    def is_on(self) -> bool:
        """Whether rows are compared at all."""
        return self.duplicates or self.contamination or self.near != "ignore"

    @property
    def removes(self) -> bool:
        """Whether a row may be rejected as a copy."""
        return self.duplicates or self.contamination or self.near == "remove"
