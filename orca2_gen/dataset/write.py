"""Committed examples -> one `datasets` directory: shards, manifest, card.

    RUN/dataset/data-00000-of-000NN.arrow  Arrow streams, as `datasets.load_from_disk` maps them
    RUN/dataset/{state.json,dataset_info.json,README.md}
    RUN/dataset/manifest.json              written last: sizes, digests and the proof of erasure

A trainer reads the manifest before it maps anything; see manifest.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.chat import Chat
from orca2_gen.dataset.card import card_of
from orca2_gen.dataset.manifest import MANIFEST_VERSION, DatasetSummary, checked_manifest
from orca2_gen.dataset.proof import ErasureProof, prove
from orca2_gen.dataset.shards import features_of, shard_table, state_of
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import (
    FileEntry,
    read_records,
    write_bytes,
)
from orca2_gen.run_directory.digests import tokenizer_files_digest
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
    input_tokens: int = 0
    trained_tokens: int = 0

    def add(self, examples: Sequence[Example]) -> None:
        """Counts these rows too."""
        self.by_task.update(example.task for example in examples)
        self.input_tokens += sum(len(example.input_ids) for example in examples)
        self.trained_tokens += sum(
            len(example.input_ids) - example.num_prompt_tokens for example in examples
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
        ValueError: an example is not erased although the plan says so; no manifest is written then.
    """
    root = run_dir / "dataset"
    digest = _digest(plan)
    if (kept := _unchanged(root, digest)) is not None:
        return kept
    make_way(run_dir, say)
    counted = RowCounts()
    num_rows = sum(entry.rows for entry in plan.examples)
    num_shards = max(1, -(-num_rows // plan.examples_per_shard))
    examples = _read(run_dir, plan.examples)
    files = []
    for index in range(num_shards):
        shard = list(itertools.islice(examples, plan.examples_per_shard))
        shard_name = f"data-{index:05d}-of-{num_shards:05d}.arrow"
        files.append(_write_stream(root, shard_name, shard_table(shard, plan.has_reasoning)))
        counted.add(shard)
    summary = counted.summary(str(root), num_shards, plan.prompts)
    proof = _proof(root, files, chat, strategies, plan.prompts)
    descriptions = _write_descriptions(root, files, summary, plan)
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


def _digest(plan: DatasetPlan) -> str:
    """A hash of the plan without the names of its files."""
    # Names tell drivers and attempts; units count by their content alone.
    contents = tuple(dataclasses.replace(entry, path="") for entry in plan.examples)
    body = dataclasses.asdict(dataclasses.replace(plan, examples=contents))
    if not plan.has_reasoning:
        del body["has_reasoning"]  # older plans had no such key
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _read(run_dir: Path, entries: Sequence[FileEntry]) -> Iterator[Example]:
    for entry in entries:
        yield from read_records(run_dir, entry, Example)


def _write_stream(root: Path, name: str, table: pa.Table) -> FileEntry:
    # Without the features in the schema, `datasets` would guess another type for messages.
    schema = features_of(table.schema).arrow_schema
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in table.cast(schema).to_batches(max_chunksize=1000):
            writer.write_batch(batch)
    body = sink.getvalue().to_pybytes()
    return _write(root, name, body, rows=table.num_rows)


def _write(root: Path, name: str, body: bytes, rows: int = 0) -> FileEntry:
    write_bytes(root / name, body)
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path=name, rows=rows, bytes=len(body), sha256=digest)


def _proof(
    root: Path, files: Sequence[FileEntry], chat: Chat, strategies: Strategies, prompts: str
) -> ErasureProof | None:
    """The proof over the written files; None if the plan keeps instructions."""
    if prompts != "erased":
        return None
    examples = (example for entry in files for example in read_records(root, entry, Example))
    proof = prove(examples, chat=chat, strategies=strategies)
    if not proof.holds:
        raise ValueError(
            f"{proof.num_examples - proof.num_proved} of {proof.num_examples} examples in {root} "
            "have a prompt other than (cautious message, user text): their strategy is not erased; "
            "no manifest was written"
        )
    return proof


def _write_descriptions(
    root: Path, files: Sequence[FileEntry], summary: DatasetSummary, plan: DatasetPlan
) -> list[FileEntry]:
    features = features_of(shard_table((), plan.has_reasoning).schema)
    about_features = {"features": features.to_dict(), "dataset_name": plan.name}
    return [
        _write(root, "state.json", _json(state_of(files))),
        _write(root, "dataset_info.json", _json(about_features)),
        _write(root, "README.md", card_of(summary, plan.name)),
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
