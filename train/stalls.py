"""Ranks that wait for one another too long say where each of them is, and then give up.

A rank whose disk hangs still gives signs of life, so nobody misses it (failures.py), and the others
would wait for it in a collective for as long as they would wait for the student to be written.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from train.ranks import collectives_within

STACKS_SECONDS = 600.0
"""Seconds after which a rank whose step is not done prints where its threads are."""
_STDERR = 2
"""Its number: whatever stands in its place in Python may have none."""
STEP_TIMEOUT = timedelta(minutes=15)
"""Most time that a collective of a step waits for the other ranks."""


@contextmanager
def watched_steps() -> Iterator[Callable[[], None]]:
    """Inside, no collective waits longer than STEP_TIMEOUT, and a step of more than STACKS_SECONDS
    prints the stacks of this rank; what it yields is called after each step.
    """

    def done() -> None:
        faulthandler.dump_traceback_later(STACKS_SECONDS, file=_STDERR)

    with collectives_within(STEP_TIMEOUT):
        done()
        try:
            yield done
        finally:
            faulthandler.cancel_dump_traceback_later()
