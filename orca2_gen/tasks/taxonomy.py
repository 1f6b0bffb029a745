"""A taxonomy file: the category and sub-category of each task.

    [gsm8k]
    category = "mathematics"
    sub_category = "word problems"

    ["glue/mnli:2.0.0"]       # a task inside a mixture, by the name in its rows
    category = "inference"

A row is looked up by its own task name, then by the name of the task in the config; if neither is
listed, the row keeps its own category.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orca2_gen.mistakes.toml_faults import toml_fault
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular

MAX_TAXONOMY_BYTES = 10_000_000
MAX_NAME_CHARS = 100

_KEYS = frozenset(["category", "sub_category"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The place of a task in the taxonomy."""

    category: str
    sub_category: str = ""


NOWHERE = Branch(category="")
"""The branch of a row that states nothing."""
Taxonomy = Mapping[str, Branch]

NO_TAXONOMY: Taxonomy = MappingProxyType({})


def load_taxonomy(path: str | None) -> Taxonomy:
    """The branches by task name; none without a file.

    Raises:
        ValueError: one line with the file, the task and what to do.
    """
    return NO_TAXONOMY if path is None else parse_taxonomy(taxonomy_bytes(path), path)


def taxonomy_bytes(path: str) -> bytes:
    """The content of a taxonomy file.

    Raises:
        ValueError: it cannot be read, or is too large.
    """
    try:
        with open_regular(Path(path)) as stream:
            body = stream.read(MAX_TAXONOMY_BYTES + 1)
    except (OSError, UnusableFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"taxonomy {path} cannot be read: {reason}; give the path of a TOML file"
        ) from None
    if len(body) > MAX_TAXONOMY_BYTES:
        raise ValueError(
            f"taxonomy {path}: more than {MAX_TAXONOMY_BYTES} bytes; remove names that no task has"
        )
    return body


def parse_taxonomy(body: bytes, path: str) -> dict[str, Branch]:
    """The branches by task name in the content of a taxonomy file.

    Raises:
        ValueError: one line with the file, the task and what to do.
    """
    try:
        found = tomllib.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"taxonomy {path} is not TOML: {toml_fault(error, body)}") from None
    return {task: _branch(Path(path), task, table) for task, table in found.items()}


def _branch(file: Path, task: str, table: Any) -> Branch:
    where = f"taxonomy {file}: [{ascii(task)[:MAX_NAME_CHARS]}]"
    if not isinstance(table, dict) or "category" not in table or not set(table) <= _KEYS:
        raise ValueError(
            f"{where}: expected category and optionally sub_category, nothing else; put a name "
            "with '/', ':' or '.' in quotes"
        )
    for key, value in table.items():
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError(f"{where} {key}: expected a name, found {ascii(value)[:60]}")
        if len(value) > MAX_NAME_CHARS:
            raise ValueError(
                f"{where} {key}: {len(value)} characters, expected at most {MAX_NAME_CHARS}"
            )
    return Branch(category=table["category"], sub_category=table.get("sub_category", ""))
