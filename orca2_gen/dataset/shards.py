"""Examples <-> the shards of a dataset directory, as `datasets.load_from_disk` maps them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.dataset.manifest import Manifest
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.record_tables import to_table


def read_examples(root: Path, manifest: Manifest) -> Iterator[Example]:
    """The examples of a dataset directory, shard by shard, each checked before it is read."""
    for entry in manifest.files:
        yield from read_records(root, entry, Example)


def shard_table(examples: Sequence[Example], has_reasoning: bool) -> pa.Table:
    """The rows of a shard; messages are of role and content alone unless thoughts are kept."""
    table = to_table(examples, Example)
    if has_reasoning:
        return table
    column = table.schema.get_field_index("messages")
    messages = table.column(column).combine_chunks()
    turns = messages.values
    names = [field.name for field in turns.type if field.name != "reasoning"]
    plain = pa.StructArray.from_arrays(
        [turns.field(name) for name in names],
        fields=[turns.type.field(name) for name in names],
    )
    item = pa.field("item", plain.type, False)
    kept = pa.ListArray.from_arrays(messages.offsets, plain, type=pa.list_(item))
    return table.set_column(column, pa.field("messages", kept.type, False), kept)


def features_of(schema: pa.Schema) -> Any:
    from datasets import Features

    return Features.from_arrow_schema(schema)


def state_of(files: Sequence[FileEntry]) -> dict[str, Any]:
    """The contents of state.json, from which `load_from_disk` takes the shards and their order."""
    return {
        "_data_files": [{"filename": entry.path} for entry in files],
        "_fingerprint": hashlib.sha256(
            "".join(entry.sha256 for entry in files).encode()
        ).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
