"""Seconds in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words: 12 s, 3 min 4 s, 5 h 6 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
