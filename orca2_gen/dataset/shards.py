"""Examples <-> the shards of a dataset directory, as `datasets.load_from_disk` maps them.

A shard has the columns of `Example` and `labels`, so that a trainer that knows nothing of us learns
the answers and not the prompts; and, if a run made it, `provenance` (origins.py). Ids and labels
are of 32 bits and take together what the 64-bit ids of older shards took.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.dataset.origins import COLUMN, PROVENANCE
from orca2_gen.records import Example, Message
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_batches
from orca2_gen.run_directory.record_tables import arrow_schema, check_schema, from_table
from orca2_gen.run_directory.row_names import row_name

ROWS_PER_BATCH = 1000
SHARD_LAYOUT = 4
"""Raise it with every change of a shard's columns: 1 had no labels and 64-bit ids, 2 no attempt, 3
no provenance."""
IGNORED = -100
"""The label of a token without a loss: what torch's and transformers' cross entropy leave out."""

_TEXT, _IDS = pa.string(), pa.list_(pa.int32())
_DERIVED = {"labels": _IDS, COLUMN: PROVENANCE}
"""The columns of a shard that are no field of an Example."""


def shard_schema(has_reasoning: bool, has_provenance: bool = False) -> pa.Schema:
    """The schema of a shard; messages are of role and content alone unless thoughts are kept."""
    turn = ["role", "content", *(["reasoning"] if has_reasoning else [])]
    types = {
        "messages": pa.list_(pa.struct([(name, _TEXT) for name in turn])),
        "input_ids": _IDS,
    }
    fields = []
    for column in arrow_schema(Example):
        fields.append(pa.field(column.name, types.get(column.name, column.type)))
        if column.name == "input_ids":
            fields.append(pa.field("labels", _IDS))
    if has_provenance:
        fields.append(pa.field(COLUMN, PROVENANCE))
    schema = pa.schema(fields)
    # Without the features in the schema, `datasets` would guess another type for messages.
    about = {"info": {"features": features_of(schema)}}
    return schema.with_metadata({"huggingface": json.dumps(about)})


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """The features of a shard in the words of `datasets` 3, which later versions read too.

    Version 4 calls a list `List`, which version 3 does not know.
    """
    return {column.name: _feature(column.type) for column in schema}


def _feature(type_: pa.DataType) -> Any:
    if pa.types.is_struct(type_):
        return {column.name: _feature(column.type) for column in type_}
    if pa.types.is_list(type_):
        item = _feature(type_.value_type)
        is_struct = pa.types.is_struct(type_.value_type)
        # A `Sequence` of a struct means a struct of lists in version 3.
        return [item] if is_struct else {"feature": item, "length": -1, "_type": "Sequence"}
    # Arrow itself calls it `double`.
    return {"dtype": "float64" if type_ == pa.float64() else str(type_), "_type": "Value"}


def to_shard(
    examples: pa.Table, schema: pa.Schema, provenance: pa.StructArray | None = None
) -> pa.RecordBatch:
    """A shard's rows, made of a table of `Example`, which may lack what older versions lacked.

    Their provenance is given if the schema has it.
    """
    columns = {name: examples.column(name).combine_chunks() for name in examples.column_names}
    columns |= {COLUMN: provenance} if provenance is not None else {}
    columns["input_ids"] = _as_int32(columns["input_ids"])
    columns["labels"] = labels_of(columns["input_ids"], columns["num_prompt_tokens"])
    columns["messages"] = _turns(columns["messages"], schema.field("messages").type)
    columns.setdefault("attempt", pa.array(np.zeros(examples.num_rows, np.int64)))
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _as_int32(ids: pa.ListArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(_starts(ids), pc.cast(ids.flatten(), pa.int32()), type=_IDS)


def labels_of(ids: pa.ListArray, num_prompt_tokens: pa.Array) -> pa.ListArray:
    """The labels of rows: their ids, but IGNORED for the prompt."""
    starts = _starts(ids).to_numpy()
    labels = ids.flatten().to_numpy(zero_copy_only=False).astype(np.int32)
    lengths = np.diff(starts)
    place = np.arange(len(labels)) - np.repeat(starts[:-1], lengths)
    labels[place < np.repeat(num_prompt_tokens.to_numpy(), lengths)] = IGNORED
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(labels), type=_IDS)


def _starts(lists: pa.ListArray) -> pa.Array:
    """Where each list starts in `lists.flatten()`, and the end of the last."""
    offsets = lists.offsets
    return pc.subtract(offsets, offsets[0])


def _turns(messages: pa.ListArray, type_: pa.ListType) -> pa.ListArray:
    """The messages with the columns of the type: older ones may lack some, others have more."""
    turns = messages.flatten()
    names = [column.name for column in type_.value_type]
    found = [column.name for column in turns.type]
    empty = pa.repeat(pa.scalar("", _TEXT), len(turns))
    columns = [turns.field(name) if name in found else empty for name in names]
    plain = pa.StructArray.from_arrays(columns, fields=list(type_.value_type))
    return pa.ListArray.from_arrays(_starts(messages), plain, type=type_)


def read_shard(root: Path, entry: FileEntry) -> Iterator[pa.RecordBatch]:
    """The batches of a shard, of this version or an older one, which had no labels.

    Raises:
        DamagedFile: the shard is absent, or not what was written.
    """
    return read_batches(root, entry, _check_columns)


def schema_of(root: Path, entry: FileEntry) -> pa.Schema:
    """The schema of a shard.

    Raises:
        DamagedFile: it is no Arrow stream.
    """
    try:
        with pa.OSFile(str(root / entry.path)) as file, pa.ipc.open_stream(file) as reader:
            return reader.schema
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{root / entry.path} is damaged: {error}") from None


def _check_columns(schema: pa.Schema) -> None:
    place = schema.get_field_index("input_ids")
    if place >= 0 and schema.field(place).type == _IDS:
        schema = schema.set(place, pa.field("input_ids", pa.list_(pa.int64())))
    for name, type_ in _DERIVED.items():
        if name in schema.names and schema.field(name).type == type_:
            schema = schema.remove(schema.get_field_index(name))
    check_schema(schema, Example)


def examples_in(batch: pa.RecordBatch) -> list[Example]:
    """The examples of a batch of a shard."""
    names = [name for name in batch.schema.names if name not in _DERIVED]
    return from_table(pa.Table.from_batches([batch]).select(names), Example)


def column_in(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of a batch; shards of older versions have no attempts, and one row of a problem."""
    if name == "attempt" and name not in batch.schema.names:
        return pa.array(np.zeros(batch.num_rows, np.int64))
    return batch.column(name)


def ids_in(batch: pa.RecordBatch) -> list[tuple[str, int]]:
    """The problem and attempt of each row of a batch."""
    columns = (column_in(batch, name).to_pylist() for name in ("problem_id", "attempt"))
    return list(zip(*columns, strict=True))


def names_in(batch: pa.RecordBatch) -> list[str]:
    """The name for people of each row of a batch."""
    return [row_name(problem_id, attempt) for problem_id, attempt in ids_in(batch)]


def messages_in(batch: pa.RecordBatch) -> list[tuple[Message, ...]]:
    """The conversations of a batch of a shard."""
    column = batch.column("messages")
    turns = column.flatten()
    names = [field.name for field in turns.type]
    texts = zip(*(turns.field(name).to_pylist() for name in names), strict=True)
    said = [Message(**dict(zip(names, turn, strict=True))) for turn in texts]
    return [
        tuple(said[start:end]) for start, end in itertools.pairwise(_starts(column).to_pylist())
    ]


def has_its_labels(batch: pa.RecordBatch) -> bool:
    """Whether the labels of a batch are its ids behind the prompt; so if it has no labels."""
    if "labels" not in batch.schema.names:
        return True
    expected = labels_of(batch.column("input_ids"), batch.column("num_prompt_tokens"))
    return bool(batch.column("labels").equals(expected))


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
