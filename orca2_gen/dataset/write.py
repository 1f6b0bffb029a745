"""Committed examples -> one `datasets` directory: shards, manifest, card.

    RUN/dataset/data-00000-of-000NN.arrow  Arrow streams, as `datasets.load_from_disk` maps them
    RUN/dataset/{state.json,dataset_info.json,README.md,croissant.json}
    RUN/dataset/manifest.json              written last: sizes, digests and the proof of erasure

A trainer reads the manifest before it maps anything; see manifest.py. Whatever its size, one batch
of a shard and one unit of examples are in memory at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.chat import Chat
from orca2_gen.dataset.card import CARD_VERSION, card_of
from orca2_gen.dataset.croissant import CROISSANT, croissant_of
from orca2_gen.dataset.facts import RunFacts
from orca2_gen.dataset.figures import DatasetSummary, RowCounts
from orca2_gen.dataset.manifest import MANIFEST_VERSION, Manifest, checked_manifest, manifest_of
from orca2_gen.dataset.origins import TeacherFacts, UnitOrigin, examples_provenance
from orca2_gen.dataset.proof import ErasureProof, checked_proof
from orca2_gen.dataset.shards import (
    ROWS_PER_BATCH,
    SHARD_LAYOUT,
    RowSource,
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
    origins: tuple[UnitOrigin, ...] = ()
    """What each file of examples was made from; empty leaves the rows' provenance out."""
    teacher: TeacherFacts | None = None
    """Given with the origins."""
    facts: RunFacts | None = None
    """What the run says of the rows, for the card."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of its shards."""
        return shard_schema(self.has_reasoning, has_provenance=bool(self.origins))


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
    if (kept := _of_an_older_version(root, plan, say)) is not None:
        return kept
    make_way(run_dir, say)
    counted = RowCounts()
    files = write_shards(run_dir, plan, root, counted)
    summary = counted.summary(str(root), len(files), plan.prompts)
    proof = _proof(root, files, chat, strategies, plan.prompts)
    manifest: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "plan_digest": digest,
        "examples_key": plan.key,
        "prompts": plan.prompts,
        "proof": dataclasses.asdict(proof) if proof is not None else None,
        "tokenizer_digest": chat.digest,
        "rendering": dataclasses.asdict(chat.rendering),
        "tokenizer_files": tokenizer_files_digest(Path(plan.tokenizer)),
        "files": [dataclasses.asdict(entry) for entry in files],
        "summary": dataclasses.asdict(dataclasses.replace(summary, directory="dataset")),
        "figures": dataclasses.asdict(counted.figures(plan.schema)),
        "facts": dataclasses.asdict(plan.facts) if plan.facts is not None else None,
        "card_version": CARD_VERSION,
        "name": plan.name,
    }
    # Descriptions are made of the manifest as `verify` will read it.
    descriptions = _write_descriptions(root, manifest_of(json_bytes(manifest)), plan)
    manifest["descriptions"] = [dataclasses.asdict(entry) for entry in descriptions]
    write_bytes(root / "manifest.json", json_bytes(manifest))
    way_is_used(run_dir)
    return summary


def write_shards(
    run_dir: Path, plan: DatasetPlan, root: Path, counted: RowCounts
) -> list[FileEntry]:
    """Writes the plan's examples as shards in `root`, counting their rows; returns the entries."""
    schema = plan.schema
    rows = RowSource(tables=_tables(run_dir, plan, schema))
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
    origins = tuple(origin.contents for origin in plan.origins)
    body = dataclasses.asdict(dataclasses.replace(plan, examples=contents, origins=origins))
    if layout < 4 or not origins:
        del body["origins"], body["teacher"]  # older plans had no such keys
    if layout > 3:
        del body["tokenizer"]  # where it lies changes no row, and its files are in the key
    if layout > 1:
        body["layout"] = layout  # older plans had no such key
    if not plan.has_reasoning:
        del body["has_reasoning"]  # older plans had no such key
    if plan.facts is None:
        del body["facts"]  # older plans had no such key
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _tables(run_dir: Path, plan: DatasetPlan, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all shards, a table for each unit of examples."""
    assert len(plan.origins) in (0, len(plan.examples)), "each file of examples has one origin"
    for index, entry in enumerate(plan.examples):
        examples, made = read_table(run_dir, entry, Example), None
        if plan.origins:
            assert plan.teacher is not None, "origins come with the teacher's facts"
            made = examples_provenance(run_dir, plan.origins[index], plan.teacher, examples)
        yield pa.Table.from_batches([to_shard(examples, schema, made)])


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


def _write_descriptions(root: Path, manifest: Manifest, plan: DatasetPlan) -> list[FileEntry]:
    features = features_of(plan.schema)
    about_features = {"features": features, "dataset_name": plan.name}
    return [
        _write(root, "state.json", json_bytes(state_of(manifest.files))),
        _write(root, "dataset_info.json", json_bytes(about_features)),
        _write(root, "README.md", card_of(manifest)),
        _write(root, CROISSANT, json_bytes(croissant_of(manifest))),
    ]


def _of_an_older_version(root: Path, plan: DatasetPlan, say: Say) -> DatasetSummary | None:
    """The summary of a dataset that an older version made of this plan; None if there is none."""
    without = dataclasses.replace(plan, facts=None)
    for layout in range(1, SHARD_LAYOUT + 1):
        if (kept := _unchanged(root, _digest(without, layout))) is not None:
            # A training of it may be under way, which no other dataset can continue.
            what = "its new columns" if layout < SHARD_LAYOUT else "a card of the run"
            say(f"{root} is of an older version; remove it and run again to get {what}")
            return kept
    return None


def _unchanged(root: Path, plan_digest: str) -> DatasetSummary | None:
    try:
        manifest = checked_manifest(root)
    except ValueError:
        return None
    if manifest.plan_digest != plan_digest or manifest.summary is None:
        return None
    way_is_used(root.parent)
    return dataclasses.replace(manifest.summary, directory=str(root))


def json_bytes(value: Any) -> bytes:
    """The value as the JSON of a dataset's files."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
