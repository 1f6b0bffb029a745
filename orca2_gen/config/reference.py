"""The Config tree -> docs/config.md: every section with its keys, types, defaults and sentences.

python -m orca2_gen.config.reference
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from orca2_gen.config.schema import Config
from orca2_gen.config.section import (
    FROM_LIST,
    Day,
    Language,
    License,
    Name,
    PathText,
    Section,
    sections_in,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "config.md"
COMMAND = "make docs"
REQUIRED, NOT_SET, OWN = "required", "not set", "its own"
"""Stand-ins for a default that is no TOML value: there is none, the key is left out, or each key of
the section has its own."""
_HEAD = f"""\
# Every key of a config file

`{COMMAND}` generates this page from the models in `orca2_gen/config/`: change the sentence there.

A config is one TOML file. An unknown key is an error. `--set key=value`, e.g.
`--set selection.scored_problems=100` or `--set tasks.0.path=FILE`, takes the place of a key in any
command. Paths count from the config file; `run_dir`, `training.output` and what `--set` gives count
from the directory in which the command is started.

`~` is the home directory. A path is never an address: models and files lie on storage that the
machine sees. A whole number is written without a point; inf, NaN, `true` and text are no numbers.

A `name` is 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or digit. A key whose
default is "{NOT_SET}" may be left out.
"""
_COLUMNS = "| key | type | default | meaning |\n|---|---|---|---|"
_NAMES: dict[Any, str] = {str: "string", bool: "true or false", JsonValue: "any value"}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def config_reference() -> str:
    """The Markdown page."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    """Each section with its heading; models that several sections share come once."""
    yield from ("## Above all sections\n", _table(Config))
    for models, headings in _headings(Config, "").items():
        yield f"## {', '.join(f'`{heading}`' for heading in headings)}\n"
        for model in models:
            if len(models) > 1:
                yield f"### `engine = {_type_words(model.model_fields['engine'].annotation, [])}`\n"
            yield f"{_joined(model.__doc__)}\n"
            yield _table(model)


def _headings(model: type[Section], prefix: str) -> dict[tuple[type[Section], ...], list[str]]:
    """Models of a section -> its headings in TOML, in the order of the fields."""
    found: dict[tuple[type[Section], ...], list[str]] = {}
    for name, field in model.model_fields.items():
        models = tuple(sections_in(field.annotation))
        if models:
            is_list = get_origin(field.annotation) is tuple
            heading = f"[{prefix}{name}]"
            found.setdefault(models, []).append(f"[{heading}]" if is_list else heading)
        for below in models:
            for deeper, headings in _headings(below, f"{prefix}{name}.").items():
                found.setdefault(deeper, []).extend(headings)
    return found


def _table(model: type[Section]) -> str:
    rows = (
        f"| `{name}` | {_type(field)} | {_default(field)} | {_joined(field.description)} |"
        for name, field in model.model_fields.items()
    )
    return "\n".join([_COLUMNS, *rows]) + "\n"


def _type(field: FieldInfo) -> str:
    if any(sections_in(field.annotation)):
        return "sections" if get_origin(field.annotation) is tuple else "section"
    return f"`{_type_words(field.annotation, field.metadata)}`"


def _type_words(annotation: Any, constraints: list[Any]) -> str:
    """A type in the words of TOML, e.g. `int >= 1 and <= 64` or `list of string`; `constraints` are
    pydantic's.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [each for part in parts[1:] for each in getattr(part, "metadata", [part])]
        return _type_words(parts[0], found)
    if origin is Literal:
        return _either([_toml(part) for part in parts])
    if origin in (Union, types.UnionType):
        return _either([_type_words(part, constraints) for part in parts if part is not type(None)])
    if origin is dict:
        return f"table of {_type_words(parts[1], [])}"
    if origin is tuple and parts[-1] is Ellipsis:
        return f"list of {_type_words(parts[0], [])}"
    if origin is tuple:
        return f"[{', '.join(_type_words(part, []) for part in parts)}]"
    return _bounded(_NAMES.get(annotation, annotation.__name__), constraints)


def _bounded(name: str, constraints: list[Any]) -> str:
    """The name of a type with its bounds."""
    constraints = [each for each in constraints if each != FROM_LIST]
    if constraints == list(get_args(Name)[1].metadata):
        return "name"
    if constraints == list(get_args(PathText)[1].metadata):
        return "path"
    if constraints == list(get_args(Language)[1].metadata):
        return "language"
    for word, type_ in (("day", Day), ("license", License)):
        if constraints == list(get_args(type_)[1:]):
            return word
    bounds = [
        f"{sign} {getattr(each, word)}"
        for each in constraints
        for word, sign in _SIGNS.items()
        if hasattr(each, word)
    ]
    assert len(bounds) == len(constraints), f"no words for one of {constraints}"
    return " ".join(filter(None, (name, " and ".join(bounds))))


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if value is None:
        return NOT_SET
    return OWN if isinstance(value, Section) else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    """A string, number, truth value, list or empty table in TOML, where JSON spells these alike."""
    return json.dumps(value)


def _joined(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", r"\|")


if __name__ == "__main__":
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(config_reference(), encoding="utf-8")
