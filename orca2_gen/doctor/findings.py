"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "odd", "bad"]
"""`odd` may be meant so or cost something later; `bad` keeps a run from its work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    level: Level
    about: str
    """What was looked at, in two or three words."""
    found: str
    remedy: str = ""
    """The command or change that mends it; empty if nothing is to be mended."""


def good(about: str, found: str) -> Finding:
    """A finding that needs nothing."""
    return Finding(level="good", about=about, found=found)


def odd(about: str, found: str, remedy: str) -> Finding:
    """A finding that may be meant so."""
    return Finding(level="odd", about=about, found=found, remedy=remedy)


def bad(about: str, found: str, remedy: str) -> Finding:
    """A finding that keeps a run from its work."""
    return Finding(level="bad", about=about, found=found, remedy=remedy)


def said(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
