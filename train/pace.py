"""What a training is asked to do between two steps: to save its state, and to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from train.ranks import rank

SAVE_SECONDS = 600.0
"""Seconds between two states, if their steps are not given: what a kill costs at most."""

AGAIN_SECONDS = 2.0
"""Seconds after which a second SIGINT is somebody's own."""


class Pace:
    """The wishes of this rank; the loop adds those of all ranks up, so that they act together."""

    def __init__(self, save_every_steps: int | None, stop: threading.Event | None = None) -> None:
        self._every, self._stop = save_every_steps, stop
        self._began = time.monotonic()
        self.saved_step = 0
        """Steps of the last state that is saved, over all stages."""

    def wishes(self, step: int) -> tuple[bool, bool]:
        """Whether to save the state after this step, and whether to stop then."""
        if self._every is not None:
            is_due = step % self._every == 0
        else:  # the clock of one rank decides for all
            is_due = rank() == 0 and time.monotonic() - self._began >= SAVE_SECONDS
        return is_due, self._stop is not None and self._stop.is_set()

    def began_to_save(self) -> None:
        """Notes that a state is being written: the next is due so long after now."""
        self._began = time.monotonic()

    def saved(self, step: int) -> None:
        """Notes that the state of a step is saved."""
        self.saved_step = step


@contextmanager
def listening() -> Iterator[threading.Event]:
    """An event that a first SIGTERM or SIGINT sets, for as long as the context lasts.

    A scheduler sends one before it kills; a state saved then loses no step.
    """
    stop = threading.Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    first = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        # A terminal sends one to launcher and ranks, and the launcher sends it on.
        is_again = stop.is_set() and time.monotonic() - first > AGAIN_SECONDS
        if is_again and number == signal.SIGINT:
            raise KeyboardInterrupt  # somebody at a terminal who does not want to wait
        if not stop.is_set():
            first = time.monotonic()
        stop.set()

    try:
        for each in before:
            signal.signal(each, ask)
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
