"""One training at a time writes the states of an output."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orca2_gen.run_directory.lock import RunInUse, RunLock, run_lock
from train.ranks import on_first_rank


@contextmanager
def only_trainer(states: Path) -> Iterator[Callable[[], None]]:
    """A function that checks that no other training has taken over these states meanwhile.

    Two trainings of one output would write each other's states. Every rank calls both.

    Raises:
        RunInUse: another process trains the same output.
    """
    locks: list[RunLock] = []
    with ExitStack() as stack:
        on_first_rank(lambda: locks.append(stack.enter_context(run_lock(states))))
        yield lambda: on_first_rank(lambda: locks[0].check())


def remove_left_states(states: Path) -> None:
    """Removes the states of a training that was killed after its student was complete."""
    if states.is_dir():
        with suppress(RunInUse), run_lock(states):  # unless another training has begun there
            shutil.rmtree(states, ignore_errors=True)
