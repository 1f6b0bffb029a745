"""A dataset directory -> the files that a trainer of somebody else reads, in one of several shapes.

    OUT/train-00000-of-000NN.{parquet,jsonl}   the rows, in the dataset's order
    OUT/README.md                              the card, by which `load_dataset(OUT)` finds them
    OUT/croissant.json                         the same for machines, and the fields of the rows
    OUT/dataset_info.json                      LLaMA-Factory's description, of sharegpt and alpaca
    OUT/export.json                            written last: sizes, digests and the source's digest

Rows go through Arrow columns, batch by batch. See shapes.py for what a row becomes.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.dataset.croissant import CROISSANT, export_croissant
from orca2_gen.dataset.export_card import dataset_description, export_card
from orca2_gen.dataset.export_files import (
    BOUNDS,
    Bounds,
    Format,
    entry_of,
    write_files,
    writing,
)
from orca2_gen.dataset.export_manifest import (
    CARD,
    EXPORT,
    EXPORT_VERSION,
    INFO,
    ExportManifest,
    json_bytes,
)
from orca2_gen.dataset.export_place import claimable, export_place
from orca2_gen.dataset.manifest import Manifest, checked_manifest
from orca2_gen.dataset.preference import Pairing, pairing_of, pairs, preference_schema
from orca2_gen.dataset.retokenised import rejected_that_spell, rows_of_other_tokens
from orca2_gen.dataset.shapes import Shape, shape_schema, shaped
from orca2_gen.dataset.shards import has_its_labels, read_shard
from orca2_gen.dataset.verdict import verdict_of
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry


@dataclass(kw_only=True, slots=True)
class _Counts:
    """The figures of rows, as they come."""

    tasks: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    trained_tokens: int = 0
    num_others: int = 0
    """Rows whose text gives other tokens."""
    first_other: str = ""

    def add_others(self, names: Iterator[str]) -> None:
        """Counts rows whose text gives other tokens."""
        for name in names:
            self.first_other = self.first_other if self.num_others else name
            self.num_others += 1

    def add(self, batch: pa.RecordBatch) -> None:
        for each in pc.value_counts(batch.column("task")):
            self.tasks[each["values"].as_py()] += each["counts"].as_py()
        ids = len(batch.column("input_ids").flatten())
        self.input_tokens += ids
        self.trained_tokens += ids - (pc.sum(batch.column("num_prompt_tokens")).as_py() or 0)


def dataset_directory(given: Path) -> Path:
    """The dataset directory that a path names: itself, or RUN/dataset of a run directory.

    Raises:
        ValueError: there is none.
    """
    if not os.path.isdir(given):
        raise ValueError(f"{given} is not a directory; give a run's, or a dataset's")
    for root in (given, given / "dataset"):
        if (root / "manifest.json").exists():
            return root
    raise ValueError(
        f"{given} holds no manifest.json, and no dataset/manifest.json: it is neither a finished "
        "dataset nor a run that has one; run `orca2 run` to the end"
    )


def export(
    root: Path,
    out: Path,
    *,
    shape: Shape,
    format: Format,
    bounds: Bounds = BOUNDS,
    tokenizer: Any = None,
    has_provenance: bool = False,
) -> ExportManifest:
    """Writes the rows of a dataset directory to OUT, in one step for readers.

    Args:
        root: the dataset directory.
        out: the directory to write.
        shape: what a row becomes.
        format: the files' format.
        bounds: the most of a row group and of a file.
        tokenizer: transformers' tokenizer of the student, to compare texts with; None compares
            nothing.
        has_provenance: whether rows keep the column `provenance`.

    Raises:
        ValueError: there is no whole dataset, a row does not fit the shape, or OUT is somebody's.
        DamagedFile: a file of the dataset is not what its manifest says.
        OSError: it cannot be written; the message names file and bytes.
    """
    manifest = checked_manifest(root)
    pairing = pairing_of(root) if shape == "preference" else None
    claimable(out, root)
    if not sum(entry.rows for entry in manifest.files):
        raise ValueError(f"{root} holds no rows, so there is nothing to export")
    counts = _Counts()
    compared = None if shape == "tokens" else tokenizer
    with export_place(out, root) as folder:
        shards = _batches(root, manifest, counts)
        first = next(shards)
        schema = _schema(root, shape, first.schema, has_provenance)
        if pairing is None:
            rows = _shaped(root, _both(first, shards), shape, schema, compared, counts)
        else:
            rows = _paired(pairing, _both(first, shards), schema, compared, counts)
        entries = write_files(folder, out, rows, schema=schema, format=format, bounds=bounds)
        _check_counts(root, manifest, counts)
        made = _described(manifest, entries, counts, shape, format)
        if pairing is not None:
            made = _described_pairs(root, made, pairing)
        if compared is not None:
            made = dataclasses.replace(
                made, other_tokens=counts.num_others, other_tokens_in=counts.first_other
            )
        card = export_card(made, manifest, schema, (pairing or counts).tasks)
        croissant = json_bytes(export_croissant(made, manifest, schema))
        descriptions = [(CARD, card), (CROISSANT, croissant)]
        if (info := dataset_description(shape, [entry.path for entry in entries])) is not None:
            descriptions.append((INFO, json_bytes(info)))
        written = tuple(_write(folder, out, name, body) for name, body in descriptions)
        made = dataclasses.replace(made, descriptions=written)
        _write(folder, out, EXPORT, made.body())
    return made


def _schema(root: Path, shape: Shape, shard: pa.Schema, has_provenance: bool) -> pa.Schema:
    """The schema of an export, made of shards of this schema.

    Raises:
        ValueError: the provenance is asked for where there is none.
    """
    if shape == "preference":
        if has_provenance:
            raise ValueError(
                "a pair has no provenance, which is a row's; export without it, or in another shape"
            )
        return preference_schema(shard)
    try:
        return shape_schema(shape, shard, has_provenance)
    except ValueError as error:
        raise ValueError(f"{root} {error}") from None


def _batches(root: Path, manifest: Manifest, counts: _Counts) -> Iterator[pa.RecordBatch]:
    """The batches of all shards that have rows, counted."""
    schema = None
    for entry in manifest.files:
        for batch in read_shard(root, entry):
            if not batch.num_rows:
                continue
            schema = schema or batch.schema
            if not batch.schema.equals(schema):
                raise DamagedFile(
                    f"{root / entry.path} has other columns than the shards before it; make the "
                    "dataset again"
                )
            if not has_its_labels(batch):
                raise DamagedFile(
                    f"{root / entry.path} has labels other than its ids behind the prompt; make "
                    "the dataset again"
                )
            counts.add(batch)
            yield batch


def _both(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def _shaped(
    root: Path,
    batches: Iterator[pa.RecordBatch],
    shape: Shape,
    schema: pa.Schema,
    tokenizer: Any,
    counts: _Counts,
) -> Iterator[pa.RecordBatch]:
    """The rows in the shape; those of other tokens are counted if there is a tokenizer."""
    for batch in batches:
        try:
            made = shaped(batch, shape, schema)
        except pa.ArrowInvalid as error:  # an id of more than 32 bits
            first = str(error).partition("\n")[0][:200]
            raise DamagedFile(f"{root}: {first}; make the dataset again") from None
        except ValueError as error:
            raise ValueError(f"{root}: the row {error}") from None
        if tokenizer is not None:
            counts.add_others(rows_of_other_tokens(tokenizer, batch))
        yield made


def _paired(
    pairing: Pairing,
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    tokenizer: Any,
    counts: _Counts,
) -> Iterator[pa.RecordBatch]:
    """The pairs of the rows; those of other tokens are counted if there is a tokenizer."""

    def compared() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if tokenizer is not None:
                counts.add_others(rows_of_other_tokens(tokenizer, batch))
            yield batch

    for made in pairs(pairing, compared(), schema):
        if tokenizer is not None:
            counts.add_others(rejected_that_spell(tokenizer, made))
        yield made


def _described_pairs(root: Path, made: ExportManifest, pairing: Pairing) -> ExportManifest:
    if not made.rows:
        raise ValueError(
            f"{root} has no row with an incorrect answer to the same problem beside it, so there "
            "is no pair to export"
        )
    return dataclasses.replace(made, unpaired=pairing.num_unpaired)


def _check_counts(root: Path, manifest: Manifest, counts: _Counts) -> None:
    """Checks the rows against the figures that the manifest of a dataset of ours has."""
    summary = manifest.summary
    if summary is None:
        return
    found = (counts.tasks.total(), counts.input_tokens, counts.trained_tokens)
    listed = (summary.rows, summary.input_tokens, summary.trained_tokens)
    if found != listed:
        raise DamagedFile(
            f"{root} holds {found[0]} rows of {found[1]} tokens, {found[2]} of them trained; its "
            f"manifest says {listed[0]}, {listed[1]} and {listed[2]}; make the dataset again"
        )


def _described(
    manifest: Manifest, entries: list[FileEntry], counts: _Counts, shape: Shape, format: Format
) -> ExportManifest:
    return ExportManifest(
        version=EXPORT_VERSION,
        made_by=f"orca2-gen {version('orca2-gen')} with pyarrow {pa.__version__}",
        shape=shape,
        format=format,
        prompts=manifest.prompts,
        source_digest=manifest.digest,
        tokenizer_digest=manifest.tokenizer_digest,
        rows=sum(entry.rows for entry in entries),
        problems=manifest.summary.problems if manifest.summary is not None else None,
        input_tokens=counts.input_tokens,
        trained_tokens=counts.trained_tokens,
        files=tuple(entries),
        descriptions=(),
        verdict=verdict_of(manifest.proof) if manifest.proof is not None else "",
    )


def _write(folder: Path, out: Path, name: str, body: bytes) -> FileEntry:
    with writing(folder, out, name) as sink:
        sink.write(body)
    return entry_of(sink, name, 0)
