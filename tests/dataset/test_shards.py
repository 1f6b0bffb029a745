from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.dataset.shards import (
    IGNORED,
    RowSource,
    examples_in,
    has_its_labels,
    messages_in,
    read_shard,
    shard_schema,
    to_shard,
)
from orca2_gen.records import Example, Message
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.record_tables import to_table
from tests.dataset.batches import batch_of

OLDER = Path(__file__).parents[1] / "older_run" / "RUN" / "dataset"

words = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=9))
    return Example(
        problem_id=draw(words),
        task=draw(words),
        strategy=draw(words),
        messages=tuple(
            Message(role=role, content=draw(words), reasoning=draw(words) * (role == "assistant"))
            for role in draw(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=4))
        ),
        input_ids=tuple(ids),
        num_prompt_tokens=draw(st.integers(0, len(ids) - 1)),
    )


def entry_of(path: Path, rows: int) -> FileEntry:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path=path.name, rows=rows, bytes=len(body), sha256=digest)


def write_stream(path: Path, *batches: pa.RecordBatch) -> FileEntry:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return entry_of(path, sum(batch.num_rows for batch in batches))


@given(rows=st.lists(examples(), max_size=6))
def test_a_shard_holds_the_examples_and_labels_for_the_tokens_behind_each_prompt(
    rows: list[Example],
) -> None:
    batch = batch_of(rows)
    assert examples_in(batch) == rows
    assert messages_in(batch) == [row.messages for row in rows]
    assert has_its_labels(batch)
    for row, labels in zip(rows, batch.column("labels").to_pylist(), strict=True):
        length = row.num_prompt_tokens
        assert labels == [IGNORED] * length + list(row.input_ids[length:])


@given(rows=st.lists(examples(), min_size=1, max_size=5), data=st.data())
def test_a_slice_of_a_batch_is_a_batch_of_its_rows(
    rows: list[Example], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    part = batch_of(rows).slice(start, data.draw(st.integers(0, len(rows))))
    kept = rows[start : start + part.num_rows]
    assert examples_in(part) == kept and has_its_labels(part)
    assert messages_in(part) == [row.messages for row in kept]
    table = to_table(rows, Example).slice(start, part.num_rows)
    assert to_shard(table, shard_schema(has_reasoning=True)).equals(part)


@given(rows=st.lists(examples(), min_size=1, max_size=4), data=st.data())
def test_one_changed_label_is_found(rows: list[Example], data: st.DataObject) -> None:
    batch = batch_of(rows)
    labels = batch.column("labels").to_pylist()
    row = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(0, len(labels[row]) - 1))
    labels[row][place] = data.draw(
        st.integers(IGNORED, 2**31 - 1).filter(lambda label: label != labels[row][place])
    )
    at = batch.schema.get_field_index("labels")
    changed = batch.set_column(at, batch.schema.field(at), pa.array(labels, pa.list_(pa.int32())))
    assert not has_its_labels(changed)


def test_ids_and_labels_take_together_what_ids_of_64_bits_took() -> None:
    types = {field.name: field.type for field in shard_schema(has_reasoning=False)}
    assert types["input_ids"] == types["labels"] == pa.list_(pa.int32())


@given(sizes=st.lists(st.integers(0, 7)), most=st.integers(1, 5))
def test_rows_leave_in_their_order_whatever_tables_they_came_in(
    sizes: list[int], most: int
) -> None:
    rows = list(range(sum(sizes)))
    parts = iter(rows)
    columns = [pa.array([next(parts) for _ in range(size)], pa.int64()) for size in sizes]
    tables = iter([pa.table({"n": column}) for column in columns])
    source, taken = RowSource(tables=tables), []
    while (table := source.take(most)) is not None:
        assert 0 < table.num_rows <= most
        taken.append(table.column("n").to_pylist())
    assert [n for part in taken for n in part] == rows
    assert all(len(part) == most for part in taken[:-1])


def test_a_shard_of_an_older_version_is_read_without_labels() -> None:
    manifest = json.loads((OLDER / "manifest.json").read_text())
    (entry,) = [FileEntry(**body) for body in manifest["files"]]
    batches = list(read_shard(OLDER, entry))
    assert sum(len(examples_in(batch)) for batch in batches) == entry.rows > 0
    assert all(has_its_labels(batch) for batch in batches)


def test_a_shard_that_is_cut_at_a_batch_or_has_other_columns_is_refused(tmp_path: Path) -> None:
    row = Example(
        problem_id="p",
        task="t",
        strategy="s",
        messages=(),
        input_ids=(1, 2),
        num_prompt_tokens=1,
    )
    batch = batch_of([row])
    whole = write_stream(tmp_path / "whole.arrow", batch, batch)
    assert [b.num_rows for b in read_shard(tmp_path, whole)] == [1, 1]
    first = write_stream(tmp_path / "first.arrow", batch)
    cut = FileEntry(path="first.arrow", rows=2, bytes=first.bytes, sha256=first.sha256)
    with pytest.raises(DamagedFile, match="holds 1 rows, its list says 2"):
        list(read_shard(tmp_path, cut))
    for other in (batch.append_column("x", pa.array([1])), batch.drop_columns(["task"])):
        with pytest.raises(DamagedFile, match="column"):
            list(read_shard(tmp_path, write_stream(tmp_path / "other.arrow", other)))
