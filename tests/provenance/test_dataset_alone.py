from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orca2_gen.chat import Chat
from orca2_gen.provenance.verify import verify
from orca2_gen.strategies import Strategies
from tests.dataset.test_shards import write_stream
from tests.dataset.test_write import build

Change = Callable[[pa.RecordBatch], pa.RecordBatch]


@pytest.fixture
def moved(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    """A dataset's directory without its run."""
    build(tmp_path / "run", chatml, strategies)
    shutil.move(tmp_path / "run" / "dataset", tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")
    return tmp_path / "moved"


def test_a_dataset_is_verified_without_its_run(moved: Path) -> None:
    found = verify(moved)
    assert found.findings == [] and found.table == [("dataset", 7, 7, 0, 0)]
    [note] = found.notes
    assert "holds no run" in note


def relabelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    at = batch.schema.get_field_index("labels")
    return batch.set_column(at, batch.schema.field(at), batch.column("input_ids"))


def told_otherwise(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.column("messages").to_pylist()
    rows[0][0]["content"] = "Think step by step."
    at = batch.schema.get_field_index("messages")
    column = pa.array(rows, batch.schema.field(at).type)
    return batch.set_column(at, batch.schema.field(at), column)


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    [one] = (
        pa.Table.from_batches([batch.slice(0, 1)] * batch.num_rows).combine_chunks().to_batches()
    )
    return one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabelled, "labels are not the ids behind the prompt"),
        (told_otherwise, "prompts are not erased, e.g. that of t/train/0"),
        (doubled, "ids stand in it twice, e.g. t/train/0"),
        (lambda batch: batch.slice(1), "its summary is not that of its shards"),
    ],
)
def test_rows_that_the_manifest_does_not_prove_are_found(
    moved: Path, change: Change, said: str
) -> None:
    manifest = json.loads((moved / "manifest.json").read_text())
    name = manifest["files"][0]["path"]
    with pa.OSFile(str(moved / name)) as file, pa.ipc.open_stream(file) as stream:
        [batch] = list(stream)
    entry = write_stream(moved / name, change(batch).replace_schema_metadata(batch.schema.metadata))
    manifest["files"][0] = dataclasses.asdict(entry)
    (moved / "manifest.json").write_text(json.dumps(manifest))
    assert [finding for finding in verify(moved).findings if said in finding]


@pytest.mark.parametrize(
    "name", ["data-00000-of-00003.arrow", "state.json", "dataset_info.json", "README.md"]
)
def test_a_damaged_file_of_it_is_named(moved: Path, name: str) -> None:
    (moved / name).write_bytes((moved / name).read_bytes()[:-1])
    assert [finding for finding in verify(moved).findings if name in finding]
    (moved / name).unlink()
    assert [finding for finding in verify(moved).findings if name in finding]
