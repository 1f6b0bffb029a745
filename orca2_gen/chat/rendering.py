"""All that a chat template's text depends on beside the template and the conversation."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any, Literal

FIRST_YEAR, LAST_YEAR = 1900, 2999
SystemPolicy = Literal["message", "fold"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """All that a template's text depends on beside the template and the roles.

    Raises:
        ValueError: the date or the arguments are none.
    """

    date: str = "2023-11-21"
    """The day, as YYYY-MM-DD, that the template's `strftime_now` tells, at midnight. A run sets it;
    without a run it is a fixed day, so that nothing depends on the clock."""
    arguments: str = "{}"
    """Further variables of the template, as a JSON object with sorted keys."""
    system: SystemPolicy = "message"
    """`fold` puts the system text before the first user text, for a template without a system
    role."""
    thinking: tuple[str, ...] = ()
    """The declared markers that begin and end a thought; empty if none are."""

    def __post_init__(self) -> None:
        day = datetime.date.fromisoformat(self.date)
        if day.isoformat() != self.date or not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise ValueError(f"{self.date!a} is no day of a year from {FIRST_YEAR} to {LAST_YEAR}")
        try:
            variables = json.loads(self.arguments)
        except (ValueError, RecursionError):
            variables = None
        if not isinstance(variables, dict):
            raise ValueError("the arguments of a template are a JSON object")

    @property
    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.arguments)
        return found


PLAIN = Rendering()
