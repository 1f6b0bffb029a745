"""Committed examples -> one `datasets` directory: shards, manifest, card.

    RUN/dataset/data-00000-of-000NN.arrow  Arrow streams, as `datasets.load_from_disk` maps them
    RUN/dataset/{state.json,dataset_info.json,README.md}
    RUN/dataset/manifest.json              written last: sizes, digests and the proof of erasure

A trainer reads the manifest before it maps anything; see manifest.py. Whatever its size, one batch
of a shard and one unit of examples are in memory at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.chat import Chat
from orca2_gen.dataset.card import card_of
from orca2_gen.dataset.manifest import MANIFEST_VERSION, DatasetSummary, checked_manifest
from orca2_gen.dataset.proof import ErasureProof, checked_proof
from orca2_gen.dataset.shards import (
    ROWS_PER_BATCH,
    SHARD_LAYOUT,
    features_of,
    read_shard,
    shard_schema,
    state_of,
    to_shard,
)
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import FileEntry, read_table
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.durable_files import durable_file, write_bytes
from orca2_gen.run_directory.overwriting import make_way, way_is_used
from orca2_gen.strategies import Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPlan:
    """The inputs of a dataset; equal plans give equal bytes."""

    examples: tuple[FileEntry, ...]
    tokenizer: str
    """Directory of the student's tokenizer."""
    prompts: str
    examples_per_shard: int
    has_reasoning: bool = False
    """Whether messages have a column for the assistant's thought."""
    key: str
    """Key of the examples stage."""
    name: str


@dataclass(kw_only=True, slots=True)
class RowCounts:
    """The figures of rows, as they come."""

    by_task: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    input_tokens: int = 0
    trained_tokens: int = 0
    last: str | None = None
    """Problem of the last row: the rows of a problem follow each other."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of a shard's batch too."""
        if batch.num_rows:
            ids = batch.column("problem_id")
            is_other = pc.not_equal(ids[1:], ids[:-1])
            self.problems += (pc.sum(is_other).as_py() or 0) + (ids[0].as_py() != self.last)
            self.last = ids[-1].as_py()
        input_tokens = len(batch.column("input_ids").flatten())
        self.by_task.update(batch.column("task").to_pylist())
        self.input_tokens += input_tokens
        self.trained_tokens += input_tokens - (
            pc.sum(batch.column("num_prompt_tokens")).as_py() or 0
        )

    def summary(self, directory: str, shards: int, prompts: str) -> DatasetSummary:
        """The summary of a dataset of all rows so far."""
        return DatasetSummary(
            directory=directory,
            rows=self.by_task.total(),
            shards=shards,
            input_tokens=self.input_tokens,
            trained_tokens=self.trained_tokens,
            rows_by_task=dict(sorted(self.by_task.items())),
            prompts=prompts,
            problems=self.problems,
        )


Say = Callable[[str], None]
"""Takes a line for people."""


def _silent(line: str) -> None:
    pass


def write_dataset(
    run_dir: Path, plan: DatasetPlan, chat: Chat, strategies: Strategies, say: Say = _silent
) -> DatasetSummary:
    """Writes RUN/dataset, unless it was made from the same plan, and returns its summary.

    Args:
        run_dir: the run's directory.
        plan: the inputs of the dataset.
        chat: the student's, from the plan's directory.
        strategies: the run's.
        say: function that takes a line about files of somebody else that were in the way.

    Raises:
        ValueError: an example is not erased although the plan says so, or the template writes an
            instruction itself; no manifest is written then.
    """
    root = run_dir / "dataset"
    digest = _digest(plan, SHARD_LAYOUT)
    if (kept := _unchanged(root, digest)) is not None:
        return kept
    for layout in range(1, SHARD_LAYOUT):
        if (kept := _unchanged(root, _digest(plan, layout))) is not None:
            # A training of it may be under way, which no other dataset can continue.
            say(f"{root} is of an older version; remove it and run again to get its new columns")
            return kept
    make_way(run_dir, say)
    counted = RowCounts()
    files = write_shards(run_dir, plan, root, counted)
    summary = counted.summary(str(root), len(files), plan.prompts)
    proof = _proof(root, files, chat, strategies, plan.prompts)
    descriptions = _write_descriptions(root, files, summary, plan, proof)
    manifest = {
        "version": MANIFEST_VERSION,
        "plan_digest": digest,
        "examples_key": plan.key,
        "prompts": plan.prompts,
        "proof": dataclasses.asdict(proof) if proof is not None else None,
        "tokenizer_digest": chat.digest,
        "rendering": dataclasses.asdict(chat.rendering),
        "tokenizer_files": tokenizer_files_digest(Path(plan.tokenizer)),
        "files": [dataclasses.asdict(entry) for entry in files],
        "descriptions": [dataclasses.asdict(entry) for entry in descriptions],
        "summary": dataclasses.asdict(dataclasses.replace(summary, directory="dataset")),
    }
    write_bytes(root / "manifest.json", _json(manifest))
    way_is_used(run_dir)
    return summary


def write_shards(
    run_dir: Path, plan: DatasetPlan, root: Path, counted: RowCounts
) -> list[FileEntry]:
    """Writes the plan's examples as shards in `root`, counting their rows; returns the entries."""
    schema = shard_schema(plan.has_reasoning)
    rows = RowSource(tables=_tables(run_dir, plan.examples, schema))
    num_rows = sum(entry.rows for entry in plan.examples)
    num_shards = max(1, -(-num_rows // plan.examples_per_shard))
    files = []
    for index in range(num_shards):
        name = f"data-{index:05d}-of-{num_shards:05d}.arrow"
        shard = _batches(rows, plan.examples_per_shard)
        files.append(_write_shard(root, name, shard, schema, counted))
    return files


def _digest(plan: DatasetPlan, layout: int) -> str:
    """A hash of the plan, without the names of its files, and of the shards' layout."""
    # Names tell drivers and attempts; units count by their content alone.
    contents = tuple(dataclasses.replace(entry, path="") for entry in plan.examples)
    body = dataclasses.asdict(dataclasses.replace(plan, examples=contents))
    if layout > 1:
        body["layout"] = layout  # older plans had no such key
    if not plan.has_reasoning:
        del body["has_reasoning"]  # older plans had no such key
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(kw_only=True, slots=True)
class RowSource:
    """Rows that come in tables of any size and leave in others."""

    tables: Iterator[pa.Table]
    left: pa.Table | None = None

    def take(self, most: int) -> pa.Table | None:
        """The next rows, `most` of them unless fewer are left; None if none is."""
        taken, num_rows = [], 0
        while num_rows < most:
            table = self.left if self.left is not None else next(self.tables, None)
            if table is None:
                break
            part = table.slice(0, most - num_rows)
            self.left = table.slice(part.num_rows) if part.num_rows < table.num_rows else None
            taken.append(part)
            num_rows += part.num_rows
        return pa.concat_tables(taken) if num_rows else None


def _tables(run_dir: Path, entries: Sequence[FileEntry], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a shard, a table for each unit of examples."""
    for entry in entries:
        yield pa.Table.from_batches([to_shard(read_table(run_dir, entry, Example), schema)])


def _batches(rows: RowSource, num_rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of a shard of so many rows, or of all that are left."""
    while num_rows and (table := rows.take(min(num_rows, ROWS_PER_BATCH))) is not None:
        num_rows -= table.num_rows
        yield from table.combine_chunks().to_batches()


def _write_shard(
    root: Path,
    name: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    counted: RowCounts,
) -> FileEntry:
    """Writes a shard batch by batch, counting its rows, and returns its entry."""
    num_rows = 0
    with durable_file(root / name) as writer:
        with pa.ipc.new_stream(writer, schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
                num_rows += batch.num_rows
                counted.add(batch)
        entry = FileEntry(
            path=name, rows=num_rows, bytes=writer.num_bytes, sha256=writer.hash.hexdigest()
        )
    return entry


def _write(root: Path, name: str, body: bytes) -> FileEntry:
    write_bytes(root / name, body)
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path=name, rows=0, bytes=len(body), sha256=digest)


def _proof(
    root: Path, files: Sequence[FileEntry], chat: Chat, strategies: Strategies, prompts: str
) -> ErasureProof | None:
    """The proof over the written files; None if the plan keeps instructions."""
    if prompts != "erased":
        return None
    batches = (batch for entry in files for batch in read_shard(root, entry))
    return checked_proof(batches, root, chat=chat, strategies=strategies)


def _write_descriptions(
    root: Path,
    files: Sequence[FileEntry],
    summary: DatasetSummary,
    plan: DatasetPlan,
    proof: ErasureProof | None,
) -> list[FileEntry]:
    features = features_of(shard_schema(plan.has_reasoning))
    about_features = {"features": features, "dataset_name": plan.name}
    return [
        _write(root, "state.json", _json(state_of(files))),
        _write(root, "dataset_info.json", _json(about_features)),
        _write(root, "README.md", card_of(summary, plan.name, proof)),
    ]


def _unchanged(root: Path, plan_digest: str) -> DatasetSummary | None:
    try:
        manifest = checked_manifest(root)
    except ValueError:
        return None
    if manifest.plan_digest != plan_digest or manifest.summary is None:
        return None
    way_is_used(root.parent)
    return dataclasses.replace(manifest.summary, directory=str(root))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
