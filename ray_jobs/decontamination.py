"""Copies among the rows of all tasks, found by Ray tasks before any row is read for good.

    a task's files, by shares  -> fingerprints of its rows
    fingerprints of all tasks  -> exact copies, and held-out questions under other names
    fingerprints of a range    -> signatures, in bands
    bands of all rows          -> pairs that may be near-duplicates -> those that are
    all of these               -> matches of each task

All of it lies in one folder of the run directory, which is gone when the problems are committed.
The driver learns numbers of rows only.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from orca2_gen.config.arguments import task_source
from orca2_gen.config.task import TaskConfig
from orca2_gen.provenance.inputs import Inputs, TaskWatch
from orca2_gen.tasks.comparison import Comparison, compare
from orca2_gen.tasks.copies import NEAR_LIST
from orca2_gen.tasks.duplicates import TaskFingerprints
from orca2_gen.tasks.files import task_files
from orca2_gen.tasks.fingerprints import Share, fingerprints, write_fingerprints
from orca2_gen.tasks.formats import suffixes
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE, NEAR
from ray_jobs.dispatch.receipts import unwrapped
from ray_jobs.run import Run

FOLDER = ".fingerprints-"
"""Beginning of the name of the folder; the driver's id follows."""
_SHARE_BYTES = 16 << 20
"""Bytes of a task's files that are worth a Ray task of their own."""
_RETRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A share of a task's rows, and the file for their fingerprints."""

    task: TaskConfig
    share: Share
    path: Path


@contextmanager
def found_copies(run: Run) -> Iterator[Path | None]:
    """A context with the folder of each task's matches, `TASK.matches`; None if none are wanted.

    Raises:
        ChangedInput: a file that is read has changed since the run began.
        ValueError: a file cannot be read to its end.
    """
    for left in run.run_dir.glob(f"{FOLDER}*"):  # of a driver that died: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    if run.config.decontaminate is None or not run.config.decontaminate.is_on:
        yield None
        return
    folder = run.run_dir / f"{FOLDER}{run.driver}"
    folder.mkdir()
    try:
        _find(run, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find(run: Run, folder: Path) -> None:
    asked = run.config.decontaminate
    assert asked is not None
    inputs = ray.put(run.inputs)
    trained = _reads(run.config.tasks, folder, "task")
    held_out = _reads(run.config.held_out, folder, "held-out")
    every = [*trained, *held_out]
    with run.track("decontamination", None):
        counts = remote_results(_fingerprinted, [(inputs, read) for read in every])
        comparison = Comparison(
            folder=folder,
            trained=_files(trained),
            held_out=_files(held_out),
            duplicates=asked.duplicates,
            near=asked.near,
            near_list=run.run_dir / NEAR_LIST,
        )
        found = compare(comparison, remote_results)
    num_trained = sum(counts[: len(trained)])
    said = f"{found[DUPLICATE]} duplicates, {found[CONTAMINATED]} contaminated"
    if asked.near != "ignore":
        said += f", {found[NEAR]} near-duplicates"
    run.say(
        f"decontamination: {num_trained:,} rows compared with each other and "
        f"{sum(counts) - num_trained:,} held out: {said}"
    )


def _reads(tasks: Sequence[TaskConfig], folder: Path, word: str) -> list[_Read]:
    found = []
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    for index, task in enumerate(tasks):
        place = folder / f"{word}-{index:06d}"
        place.mkdir()
        files = task_files(Path(task.path), suffixes(task.format))
        num_bytes = sum(file.path.stat().st_size for file in files)
        num_shares = max(1, min(cores, math.ceil(num_bytes / _SHARE_BYTES)))
        for share in range(num_shares):
            path = place / f"{share:06d}.arrow"
            found.append(_Read(task=task, share=Share(index=share, of=num_shares), path=path))
    return found


def _files(reads: Sequence[_Read]) -> tuple[TaskFingerprints, ...]:
    """The fingerprints of each task."""
    by_task: dict[Path, list[_Read]] = {}
    for read in reads:
        by_task.setdefault(read.path.parent, []).append(read)
    return tuple(
        TaskFingerprints(task=of[0].task.name, files=tuple(read.path for read in of))
        for of in by_task.values()
    )


def remote_results(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of calls of a function, each in a Ray task.

    A call may run again after its process was lost: it writes the same file.

    Raises:
        Exception: the first remote exception itself.
    """
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    refs = [remote.remote(*call) for call in calls]
    try:
        return list(ray.get(refs))
    except RayTaskError as error:
        for ref in refs:
            ray.cancel(ref)
        raise unwrapped(error) from None


def _fingerprinted(inputs: Inputs, read: _Read) -> int:
    """The number of rows whose fingerprints are written."""
    watch = TaskWatch(inputs, [read.task])
    try:
        found = fingerprints(task_source(read.task), read.share)
        num_rows = write_fingerprints(found, read.path)
    except ValueError:
        watch.check()  # a file that was replaced meanwhile may break anywhere
        raise
    watch.check()
    return num_rows
