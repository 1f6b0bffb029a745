"""The arguments of the installed vLLM, read from its source: to import it takes ten seconds."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ARGUMENTS = ("EngineArgs", "AsyncEngineArgs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The names and types of vLLM's arguments, as its source spells them."""

    arguments: Mapping[str, ast.expr]
    configs: Mapping[str, Mapping[str, ast.expr]]
    """Name of a class in vllm/config -> its fields, for the tables that some arguments take."""


@functools.cache
def installed_fields() -> Fields | None:
    """The Fields of the installed vLLM; None if there is none, or it is laid out differently."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        return None
    package = Path(found.origin).parent
    try:
        classes = _classes(package / "engine" / "arg_utils.py")
        configs = [_classes(path) for path in sorted((package / "config").glob("*.py"))]
    except (OSError, SyntaxError):
        return None
    arguments = {
        field: kind for name in _ARGUMENTS for field, kind in classes.get(name, {}).items()
    }
    if not arguments:
        return None
    return Fields(
        arguments=arguments,
        configs={name: fields for module in configs for name, fields in module.items()},
    )


def _classes(path: Path) -> dict[str, dict[str, ast.expr]]:
    """Class of a file -> its public fields with their types."""
    return {
        node.name: {
            line.target.id: _plain(line.annotation)
            for line in node.body
            if isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and not line.target.id.startswith("_")
        }
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


def _plain(annotation: ast.expr) -> ast.expr:
    """An annotation without the quotes that some stand in."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation
