"""Steps whose loss stands out from those before."""

from __future__ import annotations

import statistics
from collections import deque

RECENT_STEPS = 50
FEWEST_STEPS = 20
"""Steps that must be known before one can stand out."""
MANY_DEVIATIONS = 6.0
"""Standard deviations above the mean of recent steps; losses of batches scatter by two or three."""
LEAST_RISE = 1.2
"""Times the mean: where all losses are alike, a small rise is many deviations."""


class Spikes:
    """The losses of recent steps."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)

    def is_one(self, loss: float) -> bool:
        """Whether the loss of the next step stands out; it then counts as no recent one."""
        if len(self._recent) >= FEWEST_STEPS:
            mean, deviation = statistics.mean(self._recent), statistics.pstdev(self._recent)
            if loss > max(mean + MANY_DEVIATIONS * deviation, LEAST_RISE * mean):
                return True
        self._recent.append(loss)
        return False
