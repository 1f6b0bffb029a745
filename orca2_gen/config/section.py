"""What every section of a config file shares."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from orca2_gen.chat.rendering import FIRST_YEAR, LAST_YEAR
from orca2_gen.config.secrecy import shown

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, Field(pattern=_NAME)]
PathText = Annotated[str, Field(min_length=1)]
FROM_LIST = Strict(False)
"""Marks a tuple: TOML and JSON have lists only."""


def _as_day(value: Any) -> Any:
    # TOML has dates of its own, JSON has none.
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = value.isoformat()
    if value is None:
        return value
    try:
        day = datetime.date.fromisoformat(value)
        if day.isoformat() != value:  # 2025-W10-2 is a day, too
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{shown(value)} is no day; expected YYYY-MM-DD") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(
            f"{value} is too far away; expected a year from {FIRST_YEAR} to {LAST_YEAR}"
        )
    return value


Day = Annotated[str, BeforeValidator(_as_day)]
"""A day as YYYY-MM-DD, in a config also as TOML's own date."""


_MOST_CHARACTERS = 100


def _as_license(value: str) -> str:
    is_line = value.isprintable() and value == value.strip() and value != ""
    if not is_line or len(value) > _MOST_CHARACTERS:
        raise ValueError(
            f"{shown(value)} is no name of a license; expected one line of at most "
            f'{_MOST_CHARACTERS} characters, e.g. "apache-2.0"'
        )
    return value


License = Annotated[str, AfterValidator(_as_license)]
"""An SPDX or Hugging Face name of a license, or a few words of its own."""
_LANGUAGE = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$"
Language = Annotated[str, Field(pattern=_LANGUAGE)]
"""A code of a language as Hugging Face takes it: ISO 639, or BCP 47."""
PATTERNS = {
    _NAME: "letters, digits, ., _ or -, beginning with a letter or digit, at most 64",
    _LANGUAGE: 'the code of a language, e.g. "en" or "pt-BR"',
}
"""Pattern of a text -> what a message calls it."""


class Section(BaseModel):
    """A section of a config file: frozen, and a key that it does not know is an error.

    A value has the type of its key: `true` is no number, and neither is `"3"`. The sentence under
    a field is its description, which config/reference.py prints.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)
