"""The states of a training, written between two steps or beside the steps that follow.

A state is written under a temporary name beside its place and renamed when complete, so a killed
save is never taken for a state. Writing one beside the steps costs each rank a copy of its share in
the host's memory, and the state counts once all ranks have written it.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orca2_gen.run_directory.durable_files import sync_directory
from train.checkpoint import (
    FORMAT,
    STATE_RECORD,
    TrainingState,
    state_tensors,
    sync_files,
    write_json,
)
from train.pace import Pace
from train.ranks import another_group, collectives_within, of_all_ranks, on_first_rank
from train.state_files import wait_until_written, write_beside, write_tensors, written_sizes


class Saver:
    """Saves the states of one training, one at a time. Every rank calls each method."""

    def __init__(self, state: TrainingState, pace: Pace, *, is_async: bool) -> None:
        self._state, self._pace, self._is_async = state, pace, is_async
        self._growing: GrowingState | None = None
        # The steps go on with the other group, and collectives of two threads would mix in one.
        self._group = another_group() if is_async else None

    def save(self, step: int) -> None:
        """Saves the state of a step, or begins to; one that is growing is finished first.

        Raises:
            OSError: it or the one before it cannot be written.
        """
        self.finish()
        with collectives_within():
            if self._is_async:
                write = functools.partial(write_beside, group=self._group)
                self._growing = begin_state(self._state, step, write=write)
            else:
                save_state(self._state, step)
        self._pace.began_to_save()
        if self._growing is None:
            self._pace.saved(step)

    def finish_if_written(self) -> None:
        """Puts a growing state in its place if all ranks have written it.

        Raises:
            OSError: it cannot be written.
        """
        writing = self._growing.writing if self._growing is not None else None
        if writing is not None and all(of_all_ranks(writing.done())):
            self.finish()

    def finish(self) -> None:
        """Waits for a growing state, if there is one, and puts it in its place.

        Raises:
            OSError: it cannot be written.
        """
        growing, self._growing = self._growing, None
        if growing is not None:
            with collectives_within():  # ranks may need long for the disk
                finish_state(self._state, growing)
            self._pace.saved(growing.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowingState:
    """A state that is being written."""

    step: int
    directory: Path
    """Where it grows, under a name that no state has."""
    final: Path
    record: Mapping[str, Any]
    """What is not in its files' tensors, but for the files."""
    writing: Future[Any] | None
    """The end of writing its tensors; None if they are written."""


def save_state(state: TrainingState, step: int) -> Path:
    """Saves the state after `step` steps and returns its directory; older ones than those that stay
    are removed.

    One that is there and complete stays: it is the same, and nothing else may be left of it.

    Raises:
        OSError: it cannot be written; the one before stays.
    """
    growing = begin_state(state, step)
    if growing is not None:
        finish_state(state, growing)
    return _final(state, step)


def begin_state(
    state: TrainingState,
    step: int,
    *,
    write: Callable[[Mapping[str, torch.Tensor], Path], Future[Any] | None] = write_tensors,
) -> GrowingState | None:
    """The state after `step` steps as it grows; None if it is there and complete.

    Args:
        state: what is saved; it may change as soon as this returns.
        step: steps done.
        write: writes tensors into a directory, or has copied them when it returns.

    Raises:
        OSError: it cannot be written; the one before stays.
    """
    final = _final(state, step)
    directory = state.directory / f".step-{step:08d}.tmp"  # one name for all ranks
    state.fence()
    if on_first_rank(lambda: _is_there(final, directory)):
        return None
    _, tensors = state_tensors(state)
    with _naming(step, directory):
        writing = write(tensors, directory)
    return GrowingState(
        step=step,
        directory=directory,
        final=final,
        record={
            "format": FORMAT,
            "step": step,
            "determinants": dict(state.determinants),
            "stage_steps": list(state.stage_steps),
            "changes": list(state.changes),
        },
        writing=writing,
    )


def finish_state(state: TrainingState, growing: GrowingState) -> None:
    """Waits until a state is written, and puts it in its place.

    Raises:
        OSError: it cannot be written; the one before stays.
    """
    if growing.writing is not None:
        with _naming(growing.step, growing.directory):
            wait_until_written(growing.writing)
    record = {**growing.record, "files": written_sizes(growing.directory)}
    state.fence()  # writing may have taken long
    on_first_rank(lambda: _put_in_place(growing.directory, growing.final, record, state.keep))


def _final(state: TrainingState, step: int) -> Path:
    return state.directory / f"step-{step:08d}"


@contextmanager
def _naming(step: int, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the state of step {step} cannot be written to {directory}: {error}"
        ) from None


def _is_there(final: Path, growing: Path) -> bool:
    """Whether a state is complete; else its place is made free."""
    if (final / STATE_RECORD).is_file():
        return True
    final.parent.mkdir(parents=True, exist_ok=True)
    for old in (growing, final):
        shutil.rmtree(old, ignore_errors=True)
        if old.exists():
            raise OSError(f"{old} is of an earlier save and cannot be removed; remove it")
    return False


def _put_in_place(growing: Path, final: Path, record: Mapping[str, Any], keep: int) -> None:
    """Completes a state, and removes all but the newest and those after it, of another past."""
    write_json(growing / STATE_RECORD, record)
    sync_files(growing)
    os.replace(growing, final)
    sync_directory(final.parent)
    states = sorted(final.parent.glob("step-*"))
    before = states[: states.index(final)]
    for old in (*before[: max(0, len(before) + 1 - keep)], *states[len(before) + 1 :]):
        shutil.rmtree(old)
