"""An export directory -> its faults: every listed file, and the rows in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orca2_gen.dataset.export_manifest import EXPORT, ExportManifest, read_export
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, check_file
from orca2_gen.run_directory.regular_files import open_regular

_MOST_LINE_BYTES = 256 << 20


def is_export(directory: Path) -> bool:
    """Whether it is the directory of an export, and of nothing else that can be verified."""
    return os.path.lexists(directory / EXPORT) and not (directory / "manifest.json").exists()


def verify_export(directory: Path) -> list[str]:
    """A line for each fault of an export; none if it is whole.

    Raises:
        ValueError: it is no export of ours, or one of another version.
    """
    try:
        manifest = read_export(directory)
    except FileNotFoundError:
        raise ValueError(f"{directory} holds no {EXPORT}: it is no finished export") from None
    except DamagedFile as error:
        return [str(error)]
    names = {EXPORT, *(entry.path for entry in manifest.listed)}
    foreign = sorted(set(os.listdir(directory)) - names)
    faults = [f"{directory / name} is not listed in {EXPORT}" for name in foreign]
    for entry in manifest.listed:
        try:
            check_file(directory, entry)
        except DamagedFile as error:
            faults.append(str(error))
    return faults or list(_row_faults(directory, manifest))


def _row_faults(directory: Path, manifest: ExportManifest) -> Iterator[str]:
    """A line for each file of other rows than export.json says."""
    trained = 0
    for entry in manifest.files:
        try:
            rows, num_trained = _counted(directory, entry, manifest)
        except (ValueError, KeyError, TypeError, pa.ArrowException, OSError) as error:
            first = str(error).partition("\n")[0][:200]
            yield f"{directory / entry.path} cannot be read: {first}"
            return
        if rows != entry.rows:
            yield f"{directory / entry.path} holds {rows} rows, {EXPORT} says {entry.rows}"
        trained += num_trained
    listed = sum(entry.rows for entry in manifest.files)
    if listed != manifest.rows:
        yield f"{directory / EXPORT} says {manifest.rows} rows and lists files of {listed}"
    if manifest.shape == "tokens" and trained != manifest.trained_tokens:
        yield (
            f"{directory}: {trained} labels are trained, {EXPORT} says {manifest.trained_tokens}"
        )


def _counted(directory: Path, entry: FileEntry, manifest: ExportManifest) -> tuple[int, int]:
    """The rows of a file and, of the shape tokens, its trained labels."""
    if manifest.shape == "preference":
        return _counted_pairs(directory, entry, manifest), 0
    has_labels = manifest.shape == "tokens"
    path = directory / entry.path
    if manifest.format == "parquet":
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            if not has_labels:
                return parquet.metadata.num_rows, 0
            rows = trained = 0
            for batch in parquet.iter_batches(1024, columns=["labels"]):
                rows += batch.num_rows
                labels = batch.column("labels").flatten().to_numpy()
                trained += int((labels != -100).sum())
            return rows, trained
    rows = trained = 0
    with open_regular(path) as file:
        while line := file.readline(_MOST_LINE_BYTES):
            rows += 1
            if has_labels:
                trained += sum(label != -100 for label in json.loads(line)["labels"])
    return rows, trained


def _counted_pairs(directory: Path, entry: FileEntry, manifest: ExportManifest) -> int:
    """The pairs of a file.

    Raises:
        ValueError: a row is no pair of two answers to one prompt.
    """
    rows = 0
    for pair in _pairs(directory / entry.path, manifest.format):
        rows += 1
        [chosen], [rejected] = pair["chosen"], pair["rejected"]
        roles = [turn["role"] for turn in (*pair["prompt"], chosen, rejected)]
        is_answered = roles[-3:] == ["user", "assistant", "assistant"]
        if not is_answered or chosen == rejected:
            raise ValueError(f"{pair['problem_id']} is no pair of two answers to one prompt")
    return rows


def _pairs(path: Path, format: str) -> Iterator[dict[str, Any]]:
    if format == "parquet":
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(1024):
                yield from batch.to_pylist()
        return
    with open_regular(path) as file:
        while line := file.readline(_MOST_LINE_BYTES):
            yield json.loads(line)
