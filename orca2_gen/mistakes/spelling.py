"""A misspelt name -> the known one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelled most like this one; empty if none is."""
    close = difflib.get_close_matches(name.casefold(), list(known), n=1, cutoff=0.75)
    return close[0] if close else ""


def hint(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the one that was probably meant, or else all of them."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else f"expected {', '.join(names)}"
