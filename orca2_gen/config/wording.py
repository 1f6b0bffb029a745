"""What pydantic found -> one plain line for whoever wrote the config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orca2_gen.config.engine_arguments import REFUSED, SPEED
from orca2_gen.config.secrecy import shown
from orca2_gen.config.section import PATTERNS, Section, sections_in
from orca2_gen.config.vllm_fields import installed_fields
from orca2_gen.mistakes.spelling import nearest

_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda about: "true or false",
    "int_type": lambda about: "a whole number",
    "int_parsing_size": lambda about: "a whole number of at most 18 digits",
    "float_type": lambda about: "a number",
    "finite_number": lambda about: "a finite number",
    "string_type": lambda about: "text in quotes",
    "string_too_short": lambda about: "text that is not empty",
    "string_pattern_mismatch": lambda about: PATTERNS[about["pattern"]],
    "greater_than": lambda about: f"more than {about['gt']:g}",
    "greater_than_equal": lambda about: f"at least {about['ge']}",
    "less_than": lambda about: f"less than {about['lt']:g}",
    "less_than_equal": lambda about: f"at most {about['le']}",
    "literal_error": lambda about: re.sub(r"'", "", about["expected"]),
    "union_tag_invalid": lambda about: about["expected_tags"].replace("'", "").replace(",", " or"),
    "tuple_type": lambda about: "a list",
    "list_type": lambda about: "a list",
    "dict_type": lambda about: "a table, e.g. { key = value }",
    "too_short": lambda about: f"a list of at least {about['min_length']}",
    "too_long": lambda about: f"a list of at most {about['max_length']}",
    "missing": lambda about: "a value",
}
"""Type of an error -> what was expected, from pydantic's facts about it."""
_SIZE_ERRORS = ("tuple_type", "too_short", "too_long")
_SECTION_ERRORS = ("model_type", "model_attributes_type", "dict_type", "tuple_type", "list_type")


def first_line(error: ValidationError, config: type[Section]) -> tuple[str, str]:
    """(its key, line about it and the number of others) of the mistake that explains the others.

    No value of an `env` is shown.
    """
    found = error.errors(include_url=False)
    # A misspelt section is unknown, and then the right one is missing.
    unknown = [each for each in found if each["type"] == "extra_forbidden"]
    first = unknown[0] if unknown and found[0]["type"] == "missing" else found[0]
    # A value is tried as each type that it may have, and each has its own error.
    key, *others = dict.fromkeys(_key(each, config) for each in (first, *found))
    more = f" (and {len(others)} more)" if others else ""
    return key, f"{_line(first, config)}{more}"


def _key(error: ErrorDetails, config: type[Section]) -> str:
    key = _place_of(error["loc"], config).key
    return f"{key}.engine" if error["type"] == "union_tag_invalid" else key


def _line(error: ErrorDetails, config: type[Section]) -> str:
    place = _place_of(error["loc"], config)
    kind, about = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(place, error["input"], config)
    key = _key(error, config)
    if (size := _size(place.annotation)) and kind in (*_SIZE_ERRORS, "missing"):
        key = key.rpartition(".")[0] if isinstance(place.parts[-1], int) else key
        return f"key {key!r} is {_shown(error['input'])}: expected a list of {size}{place.example}"
    if kind == "missing":
        if place.sections:
            return f"section {place.heading} is missing; add it"
        values = _values(place.annotation)
        return f"key {key!r} is missing; add it" + (f", one of {values}" if values else "")
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    found = _shown(error["input"], is_hidden="env" in place.parts)
    if place.sections and kind in (*_SECTION_ERRORS, "too_short"):
        expected = f"a {'list of sections' if place.is_list else 'section'} {place.heading}"
        return f"{key}: expected {expected}, found {'none' if kind == 'too_short' else found}"
    if kind == "union_tag_invalid":
        found = _shown(about["tag"])
    expected = _WORDS[kind](about) if kind in _WORDS else "another value"
    if "columns" in place.parts and kind in ("string_type", "tuple_type"):
        expected = "the name of a column, or a list of names"
    elif place.is_union and (values := _values(place.annotation)):
        expected = values
    if kind in ("literal_error", "union_tag_invalid"):
        near = nearest(str(error["input"]), re.findall(r"'([^']*)'", str(about.get("expected"))))
        expected += f"; did you mean {near}?" if near else ""
    if kind.endswith(("list_type", "tuple_type", "dict_type")) and _is_unquoted(error["input"]):
        expected += "; put KEY=VALUE in single quotes, since the shell takes those inside"
    return f"key {key!r} is {found}: expected {expected}"


def _is_unquoted(value: Any) -> bool:
    """Whether a text of --set was meant as a list or table, and is none without its quotes."""
    return isinstance(value, str) and value[:1] + value[-1:] in ("[]", "{}")


def _unknown(place: _Place, value: Any, config: type[Section]) -> str:
    *parents, name = place.parts
    known = {field for section in place.sections for field in section.model_fields}
    if reason := _argument_of_vllm(parents, str(name), known):
        return reason
    owner = next((each for each in place.siblings if name in each.model_fields), None)
    if owner is not None:
        section, (mine,) = ".".join(map(str, parents)), place.sections
        return (
            f'key {place.key!r} goes with engine = "{_engine_of(owner)}", and [{section}] has '
            f'engine = "{_engine_of(mine)}"; remove it, or set the other engine'
        )
    is_section = isinstance(value, dict) or (isinstance(value, list) and value[:1] == [{}])
    what = f"section [{place.key}]" if is_section and not parents else f"key {place.key!r}"
    if near := nearest(str(name), known):
        return f"unknown {what}; correct its spelling: did you mean {near!r}?"
    if is_section and parents and isinstance(parents[-1], int):
        heading = _heading(parents)
        return (
            f"unknown section [{heading}.{name}]; begin each of {heading} with [[{heading}]], or "
            "remove it"
        )
    owners = [
        f"[{owner}]"
        for owner, field in config.model_fields.items()
        if any(name in section.model_fields for section in sections_in(field.annotation))
    ]
    where = f"; it is a key of {', '.join(owners)}" if owners else ""
    return f"unknown {what}; remove it or check its spelling{where}"


def _argument_of_vllm(parents: Sequence[Any], name: str, known: set[str]) -> str:
    """What to do with an argument of vLLM that stands among our own keys; empty if it is none."""
    if "engine_arguments" not in known:
        return ""
    section = ".".join(map(str, parents))
    if reason := REFUSED.get(name):
        return f"key {f'{section}.{name}'!r} may not be set ({reason}); remove it"
    fields = installed_fields()
    if name in SPEED or (fields is not None and name in fields.arguments):
        return (
            f"unknown key {f'{section}.{name}'!r}; it is an argument of vLLM: set it in "
            f"[{section}.engine_arguments]"
        )
    return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where in a config an error is."""

    parts: list[Any]
    """Keys and list indexes that lead there; for an unknown key, that key last."""
    sections: list[type[Section]]
    """The sections that may stand there; for an unknown key, around it."""
    siblings: list[type[Section]]
    """The other branches of the union that holds an unknown key."""
    annotation: Any
    """Type of the value there; None if it is not known."""
    example: str
    """An example of a value, after a comma; empty if its field has none."""
    is_list: bool
    is_union: bool
    """Whether pydantic tried several types for one value."""

    @property
    def key(self) -> str:
        return ".".join(map(str, self.parts))

    @property
    def heading(self) -> str:
        """The heading of a section there, as it stands in a TOML file."""
        is_in_list = self.is_list or isinstance(self.parts[-1], int)
        heading = _heading(self.parts)
        return f"[[{heading}]]" if is_in_list else f"[{heading}]"


def _place_of(loc: Sequence[Any], config: type[Section]) -> _Place:
    """The place of an error, without the names of a union's branches that pydantic puts into it."""
    sections, siblings, parts = [config], list[type[Section]](), list[Any]()
    annotation: Any = config
    example = ""
    is_list = is_union = is_table = False
    for part in loc:
        if isinstance(part, int):
            parts.append(part)
            is_list = False
            continue
        fields = [s.model_fields[part] for s in sections if part in s.model_fields]
        branch = [s for s in sections if _engine_of(s) == part]
        if len(sections) > 1 and branch:
            siblings = [s for s in sections if s not in branch]
            sections = branch
        elif fields:
            parts.append(part)
            siblings, annotation = [], fields[0].annotation
            example = "".join(f", e.g. {each}" for each in fields[0].examples or ())
            sections = list(sections_in(annotation))
            is_list, is_table = _is_list(annotation), get_origin(annotation) is dict
        elif sections or is_table:  # an unknown key, or one that the author chose
            parts.append(part)
            is_table = False
        else:
            is_union = True
    return _Place(
        parts=parts,
        sections=sections,
        siblings=siblings,
        annotation=annotation,
        example=example,
        is_list=is_list,
        is_union=is_union,
    )


def _engine_of(section: type[Section]) -> str:
    """The value of `engine` that selects a section; empty for any other section."""
    field = section.model_fields.get("engine")
    return get_args(field.annotation)[0] if field is not None else ""


def _values(annotation: Any) -> str:
    """The words that a value may be; empty if they are not a few words."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    found = ["true or false" if part is bool else _values(part) for part in get_args(annotation)]
    return ", ".join(found) if all(found) else ""


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list) or any(map(_is_list, get_args(annotation)))


def _size(annotation: Any) -> int:
    """The number of values in a list that always holds as many; 0 for any other type."""
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return 0 if Ellipsis in arguments else len(arguments)
    return max(map(_size, arguments), default=0)


def _heading(place: Sequence[Any]) -> str:
    return ".".join(str(part) for part in place if not isinstance(part, int))


def _shown(value: Any, *, is_hidden: bool = False) -> str:
    """A value as its author wrote it, or its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    if not isinstance(value, (str, int, float)):
        return "no value" if value is None else "a date or time"
    if is_hidden:
        return "text" if isinstance(value, str) else "a number"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    return shown(value)
