"""Copies among the rows of all tasks, found by Ray tasks before any row is read for good.

    each task's files -> fingerprints of its rows -> copies of all tasks -> matches of each task

All of it lies in one folder of the run directory, which is gone when the problems are committed.
The driver learns counts only.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from orca2_gen.config.arguments import task_source
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.provenance.inputs import Inputs, TaskWatch
from orca2_gen.tasks.copies import write_copies
from orca2_gen.tasks.duplicates import TaskFingerprints
from orca2_gen.tasks.files import task_files
from orca2_gen.tasks.fingerprints import Share, fingerprints, write_fingerprints
from orca2_gen.tasks.formats import suffixes
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE
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
    asked = run.config.decontaminate
    if asked is None or not (asked.duplicates or run.config.held_out):
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
    config, inputs = ray.put(run.config), ray.put(run.inputs)
    trained = _reads(run.config.tasks, folder, "task")
    held_out = _reads(run.config.held_out, folder, "held-out")
    every = [*trained, *held_out]
    read_share, compare = _remote(_fingerprinted), _remote(_compared)
    with run.track("decontamination", None):
        counts = _results([read_share.remote(inputs, read) for read in every])
        num_rows: Counter[Path] = Counter()
        for read, num in zip(every, counts, strict=True):
            num_rows[read.path.parent] += num
        found = _results(
            [compare.remote(config, folder, _files(trained), _files(held_out))],
        )[0]
    num_trained = sum(num_rows[path] for path in {read.path.parent for read in trained})
    num_held_out = num_rows.total() - num_trained
    run.say(
        f"decontamination: {num_trained:,} rows compared with each other and {num_held_out:,} "
        f"held out: {found[DUPLICATE]} duplicates, {found[CONTAMINATED]} contaminated"
    )


def _reads(tasks: Sequence[TaskConfig], folder: Path, word: str) -> list[_Read]:
    found = []
    for index, task in enumerate(tasks):
        place = folder / f"{word}-{index:06d}"
        place.mkdir()
        files = task_files(Path(task.path), suffixes(task.format))
        num_bytes = sum(file.path.stat().st_size for file in files)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        num_shares = max(1, min(cores, math.ceil(num_bytes / _SHARE_BYTES)))
        for share in range(num_shares):
            path = place / f"{share:06d}.arrow"
            found.append(_Read(task=task, share=Share(index=share, of=num_shares), path=path))
    return found


def _files(reads: Sequence[_Read]) -> list[TaskFingerprints]:
    by_task: dict[Path, list[_Read]] = {}
    for read in reads:
        by_task.setdefault(read.path.parent, []).append(read)
    return [
        TaskFingerprints(task=of_task[0].task.name, files=tuple(read.path for read in of_task))
        for of_task in by_task.values()
    ]


def _remote(function: Callable[..., Any]) -> Any:
    # A share that is written twice holds the same rows.
    return ray.remote(num_cpus=1, max_retries=_RETRIES)(function)


def _results(refs: list[Any]) -> list[Any]:
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


def _compared(
    config: Config,
    folder: Path,
    trained: list[TaskFingerprints],
    held_out: list[TaskFingerprints],
) -> Counter[str]:
    """The number of copies by reason, whose matches are written."""
    assert config.decontaminate is not None
    return write_copies(folder, trained, held_out, duplicates=config.decontaminate.duplicates)
