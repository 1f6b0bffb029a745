"""What pydantic found -> one plain line for whoever wrote the config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orca2_gen.config.engine_arguments import REFUSED, SPEED
from orca2_gen.config.secrecy import shown
from orca2_gen.config.section import Section, sections_in
from orca2_gen.config.vllm_fields import installed_fields

_TAGS = re.compile(r"vllm|scripted|str|tuple\[.*")
"""Parts of a place that stand for the branch of a union, not for a key."""

_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda about: "true or false",
    "int_type": lambda about: "a whole number",
    "int_parsing_size": lambda about: "a whole number of at most 18 digits",
    "float_type": lambda about: "a number",
    "finite_number": lambda about: "a finite number",
    "string_type": lambda about: "text in quotes",
    "string_too_short": lambda about: "text that is not empty",
    "string_pattern_mismatch": lambda about: (
        "letters, digits, ., _ or -, beginning with a letter or digit, at most 64"
    ),
    "greater_than": lambda about: f"more than {about['gt']:g}",
    "greater_than_equal": lambda about: f"at least {about['ge']}",
    "less_than": lambda about: f"less than {about['lt']:g}",
    "less_than_equal": lambda about: f"at most {about['le']}",
    "literal_error": lambda about: re.sub(r"'", "", about["expected"]),
    "union_tag_invalid": lambda about: re.sub(r"'", "", about["expected_tags"]),
    "tuple_type": lambda about: "a list",
    "dict_type": lambda about: "a table, e.g. { name = ... }",
    "too_short": lambda about: f"a list of at least {about['min_length']}",
    "too_long": lambda about: f"a list of at most {about['max_length']}",
    "missing": lambda about: "a value",
}
"""Type of an error -> what was expected, from pydantic's facts about it."""
_SECTION_ERRORS = ("model_type", "model_attributes_type", "dict_type", "tuple_type")


def first_line(error: ValidationError, config: type[Section]) -> str:
    """The mistake that explains the others, and their number; no value of an `env` is shown."""
    found = error.errors(include_url=False)
    # A misspelt section is unknown, and then the right one is missing.
    unknown = [each for each in found if each["type"] == "extra_forbidden"]
    first = unknown[0] if unknown and found[0]["type"] == "missing" else found[0]
    others = len(found) - 1
    return _line(first, config) + (f" (and {others} more)" if others else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelled most like this one; empty if none is."""
    close = difflib.get_close_matches(name.casefold(), list(known), n=1, cutoff=0.75)
    return close[0] if close else ""


def _line(error: ErrorDetails, config: type[Section]) -> str:
    place = [part for part in error["loc"] if not _TAGS.fullmatch(str(part))]
    key = ".".join(str(part) for part in place)
    kind, about = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(place, error["input"], config)
    sections, is_list = _sections_at(place, config)
    heading = _heading(place)
    if kind == "missing":
        section = f"section [[{key}]]" if is_list else f"section [{key}]"
        return f"{section if sections else f'key {key!r}'} is missing; add it"
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    found = _shown(error["input"], is_hidden="env" in place)
    if sections and kind in (*_SECTION_ERRORS, "too_short"):
        expected = f"a list of sections [[{heading}]]" if is_list else f"a section [{heading}]"
        return f"{key}: expected {expected}, found {'none' if kind == 'too_short' else found}"
    if kind == "union_tag_invalid":
        key, found = f"{key}.engine", _shown(about["tag"])
    expected = _WORDS[kind](about) if kind in _WORDS else "another value"
    if "columns" in place and kind in ("string_type", "tuple_type"):
        expected = "the name of a column, or a list of names"
    if kind in ("literal_error", "union_tag_invalid"):
        near = nearest(str(error["input"]), re.findall(r"'([^']*)'", str(about.get("expected"))))
        expected += f"; did you mean {near}?" if near else ""
    return f"key {key!r} is {found}: expected {expected}"


def _unknown(place: Sequence[Any], value: Any, config: type[Section]) -> str:
    *parents, name = place
    key = ".".join(map(str, place))
    sections, _ = _sections_at(parents, config)
    known = {field for section in sections for field in section.model_fields}
    if reason := _argument_of_vllm(parents, str(name), known):
        return reason
    is_section = isinstance(value, dict) or (isinstance(value, list) and value[:1] == [{}])
    what = f"section [{key}]" if is_section and not parents else f"key {key!r}"
    if near := nearest(str(name), known):
        return f"unknown {what}; correct its spelling: did you mean {near!r}?"
    owners = [
        f"[{owner}]"
        for owner, field in config.model_fields.items()
        if any(name in section.model_fields for section in sections_in(field.annotation))
    ]
    where = f"; it is a key of {' and '.join(owners)}" if owners else ""
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


def _sections_at(place: Sequence[Any], config: type[Section]) -> tuple[list[type[Section]], bool]:
    """The sections that may stand at a place, and whether they stand there in a list."""
    sections, is_list = [config], False
    for part in place:
        if isinstance(part, int):
            is_list = False
            continue
        fields = [s.model_fields[part] for s in sections if part in s.model_fields]
        sections = [s for field in fields for s in sections_in(field.annotation)]
        is_list = any(_is_tuple(field.annotation) for field in fields)
    return sections, is_list


def _is_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_is_tuple, get_args(annotation)))


def _heading(place: Sequence[Any]) -> str:
    return ".".join(str(part) for part in place if not isinstance(part, int))


def _shown(value: Any, *, is_hidden: bool = False) -> str:
    """A value as its author wrote it, or its kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    if not isinstance(value, (str, int, float)):
        return "no value" if value is None else "a date or time"
    if is_hidden:
        return "text" if isinstance(value, str) else "a number"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    return shown(value)
