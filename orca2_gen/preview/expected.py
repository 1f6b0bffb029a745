"""Numbers that are known with an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A number, and where it lies in nine of ten cases."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Expected:
        return Expected(value=self.value * factor, low=self.low * factor, high=self.high * factor)


def exactly(value: float) -> Expected:
    """A number that is known."""
    return Expected(value=value, low=value, high=value)


def spread(values: Sequence[float]) -> Expected:
    """The mean of some cases, 0 without any, and where nine of ten lie."""
    if not values:
        return exactly(0.0)
    low, high = np.quantile(values, (0.05, 0.95))
    return Expected(value=float(np.mean(values)), low=float(low), high=float(high))


def total(parts: Sequence[Expected]) -> Expected:
    """The sum of numbers that are high together: strategies of races that are long."""
    fields = [field.name for field in dataclasses.fields(Expected)]
    return Expected(**{name: sum(getattr(part, name) for part in parts) for name in fields})
