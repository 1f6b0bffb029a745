"""Numbers that are known with an interval."""

from __future__ import annotations

import dataclasses
import math
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


def within(value: float, factor: float, lower: float | None = None) -> Expected:
    """A number that is right up to a factor, or to another one if it is less."""
    return Expected(value=value, low=value / (lower or factor), high=value * factor)


def product(*numbers: Expected) -> Expected:
    """The product of numbers that are wrong independently of each other, by factors."""
    value = math.prod(number.value for number in numbers)
    if not value:
        return Expected(value=0.0, low=0.0, high=math.prod(number.high for number in numbers))
    up = math.hypot(*(math.log(max(1.0, each.high / each.value)) for each in numbers))
    low = 0.0
    if all(number.low for number in numbers):
        down = math.hypot(*(math.log(number.value / number.low) for number in numbers))
        low = value * math.exp(-down)
    return Expected(value=value, low=low, high=value * math.exp(up))


def spread(values: Sequence[float]) -> Expected:
    """The mean of some cases, 0 without any, and where nine of ten lie."""
    if not values:
        return exactly(0.0)
    mean, (low, high) = float(np.mean(values)), np.quantile(values, (0.05, 0.95))
    # A few long races may draw the mean out of nine tenths of all.
    return Expected(value=mean, low=min(mean, float(low)), high=max(mean, float(high)))


def total(parts: Sequence[Expected]) -> Expected:
    """The sum of numbers that are high together: strategies of races that are long."""
    fields = [field.name for field in dataclasses.fields(Expected)]
    return Expected(**{name: sum(getattr(part, name) for part in parts) for name in fields})
