"""Does every task read files of its own, and do they have the columns that it maps?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca2_gen.config.paths import task_paths
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.mistakes.spelling import nearest
from orca2_gen.tasks.columnar import MissingColumnError
from orca2_gen.tasks.columns import OPTIONAL, missing_columns
from orca2_gen.tasks.files import task_files
from orca2_gen.tasks.formats import read_files, suffixes

_FIRST_ROWS = 100


def check_task_files(config: Config) -> None:
    """Checks that no file is read by two tasks, and that mapped columns exist.

    Raises:
        ValueError: one line that names the keys.
    """
    readers: dict[tuple[int, int], str] = {}
    for (key, _), task in zip(task_paths(config), config.every_task, strict=True):
        try:
            files = task_files(Path(task.path), suffixes(task.format))
            rows = [row for row in _first_rows(task) if isinstance(row, Mapping)]
        except MissingColumnError as error:
            raise ValueError(f"{_mapped(key, task, error.column)}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        for file in files:
            stat = file.path.stat()  # of the file that a link leads to
            first = readers.setdefault((stat.st_dev, stat.st_ino), key)
            if first != key and not (_is_compared_only(key) and first.startswith("evaluation")):
                raise ValueError(_twice(first, key, file.path))
        _check_columns(key, task, rows)


def _is_compared_only(key: str) -> bool:
    return key.startswith("decontaminate")


def _twice(first: str, second: str, path: Path) -> str:
    if first.startswith("tasks") and second.startswith("evaluation"):
        return (
            f"{second}: {path} is read by {first} too, so a model would be evaluated on what it "
            "was trained on; give a file of held-out problems"
        )
    if first.startswith("tasks") and _is_compared_only(second):
        return (
            f"{second}: {path} is read by {first} too, every row of which would be rejected; give "
            "a file of held-out problems"
        )
    return f"{second}: {path} is read by {first} too; give each task files of its own"


def _check_columns(key: str, task: TaskConfig, rows: Sequence[Mapping[Any, Any]]) -> None:
    for name, columns in task.columns.items():
        for column in [columns] if isinstance(columns, str) else columns:
            lacked = [(name, column) in missing_columns(row, {name: column}) for row in rows]
            if name not in OPTIONAL and lacked and all(lacked):
                names = list(map(str, rows[0]))
                near = nearest(column, names)
                hint = f"did you mean {near!r}?" if near else f"it has {', '.join(names)[:200]}"
                raise ValueError(
                    f"{_section(key)}.columns.{name}: no column {column!r} in the first "
                    f"{len(rows)} rows of {task.path}; {hint}"
                )


def _first_rows(task: TaskConfig) -> Iterator[Any]:
    """The first rows of a task that maps columns."""
    if task.columns:
        found = read_files(task.format, Path(task.path), task.columns)
        yield from (each.row for each in itertools.islice(found, _FIRST_ROWS))


def _mapped(key: str, task: TaskConfig, column: str) -> str:
    """The key that maps a column, or a path into one."""
    for name, columns in task.columns.items():
        ways = [columns] if isinstance(columns, str) else columns
        if any(column in (way, way.partition(".")[0]) for way in ways):
            return f"{_section(key)}.columns.{name}"
    return key


def _section(key: str) -> str:
    return key.removesuffix(".path")
