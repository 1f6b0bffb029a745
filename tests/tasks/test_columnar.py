"""Parquet and `datasets` directories: the same problems as from JSONL, whatever the columns."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from tests.tasks.reading import (
    PLAIN_TABLE,
    only,
    parquet_bytes,
    problems,
    read,
    read_bounded,
    read_rows,
    reasons,
    sample_file,
    shared,
    stream_bytes,
)


def write(folder: Path, columns: dict[str, list[Any]], **options: Any) -> Path:
    path = folder / "rows.parquet"
    path.write_bytes(parquet_bytes(pa.table(columns), **options))
    return path


def test_columnar_files_give_the_problems_of_the_same_rows_in_jsonl(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in row.items() if value is not None}
        for row in PLAIN_TABLE.to_pylist()
    ]
    expected = read_rows(tmp_path, *rows, format="jsonl")
    assert read(sample_file(tmp_path, "parquet"), format="parquet") == expected
    assert read(sample_file(tmp_path, "datasets"), format="datasets") == expected


def test_numbers_keep_their_text_and_booleans_are_yes_or_no(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": ["x?"] * 2, "answer": [0.1, 18.0], "id": [7, 9]})
    found = problems(read(path, format="parquet", answer_type="numeric"))
    assert [(x.target, x.problem_id) for x in found] == [
        ("0.1", "t/test/7"),
        ("18", "t/test/9"),  # a float only because another row's answer is one
    ]
    path = write(tmp_path, {"question": ["x?"] * 2, "answer": [True, None]})
    found = read(path, format="parquet", answer_type="yes_no")
    assert reasons(found) == ["problem", "no_answer"] and problems(found)[0].target == "yes"
    path = write(tmp_path, {"question": ["x?"] * 2, "answer": [float("nan"), float("inf")]})
    assert reasons(read(path, format="parquet")) == ["bad_number"] * 2


def test_a_gap_in_a_column_that_is_not_needed_is_no_fault_of_the_row(tmp_path: Path) -> None:
    gaps = {"id": [7.0, 8.0], "category": [float("nan"), 2.0], "more": [1.5, float("nan")]}
    path = write(tmp_path, {"question": ["x?"] * 2, "answer": ["a", "b"]} | gaps)
    found = problems(read(path, format="parquet"))
    assert [(x.problem_id, x.category) for x in found] == [("t/test/7", ""), ("t/test/8", "2.0")]


def test_a_path_that_no_struct_has_is_refused_as_in_jsonl(tmp_path: Path) -> None:
    path = write(tmp_path, {"q": ["x?"], "a": ["A"], "c": [{"texts": ["x", "y"]}]})
    columns = {"question": "q", "answer": "a", "choices": "c.text"}
    assert reasons(read(path, format="parquet", columns=columns)) == ["no_choices"]


def test_a_saved_dataset_is_read_from_its_own_shards_with_its_label_names(tmp_path: Path) -> None:
    features = Features({"prompt": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"prompt": [f"{i}?" for i in range(10)], "label": [i % 2 for i in range(10)]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"), num_shards=3)
    (tmp_path / "d" / "cache-0.arrow").write_bytes(b"no shard")
    columns = {"question": "prompt", "answer": "label"}
    found = problems(read(tmp_path / "d", format="datasets", columns=columns))
    assert [x.question for x in found] == [f"{i}?" for i in range(10)]
    assert [x.target for x in found] == ["no", "yes"] * 5
    assert len({x.problem_id for x in found}) == 10


@pytest.mark.parametrize(
    "listed", ["../rows.arrow", "/etc/passwd", "absent.arrow", 7, None, "a/b.arrow", ".."]
)
def test_a_list_of_shards_never_leads_out_of_the_directory(tmp_path: Path, listed: object) -> None:
    (tmp_path / "rows.arrow").write_bytes(stream_bytes(PLAIN_TABLE))
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": listed}]}))
    with pytest.raises(ValueError, match=r"state\.json"):
        read(folder, format="datasets")


def test_a_directory_of_splits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(ValueError, match="several splits"):
        read(tmp_path, format="datasets")


def test_a_stream_cut_between_two_batches_is_an_error(tmp_path: Path) -> None:
    whole = stream_bytes(PLAIN_TABLE)
    path = tmp_path / "data-0.arrow"
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"data-0\.arrow: .* after 3 rows .*no end mark"):
        read(path, format="datasets")


def test_a_column_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": ["x?"], "label": ["y"]})
    with pytest.raises(ValueError, match=r"no column 'target' in .*; it has prompt, label"):
        read(path, format="parquet", columns={"question": "prompt", "answer": "target"})


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": ["x?"], "label": ["y"], "picture": [b"\xff" * 9]})
    columns = {"question": "prompt", "answer": "label"}
    assert only(read(path, format="parquet", columns=columns)).target == "y"


READ = """
import sys
from pathlib import Path
import pyarrow as pa
from orca2_gen.tasks.columnar import read_columnar
from orca2_gen.tasks.files import TaskFile
path = Path(sys.argv[1])
try:
    list(read_columnar(TaskFile(path=path, name=path.name, is_alone=True), []))
except ValueError as error:
    print(error)
print(pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_stream_is_refused_before_it_unpacks_to_gigabytes(tmp_path: Path, codec: str) -> None:
    text = pa.StringArray.from_buffers(
        1, pa.py_buffer(struct.pack("<ii", 0, 1_600_000_000)), pa.py_buffer(bytes(1_600_000_000))
    )
    table = pa.table({"question": text})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    path = tmp_path / "task.arrow"
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    line, most = done.stdout.splitlines()
    assert f"task file {path}: a row group of 16000000" in line
    assert int(most) < 1_000_000


def viewed(num_chars: int, rows: int) -> pa.Array:
    view = struct.pack("<i4sii", num_chars, b"xxxx", 0, 0) * rows
    text = pa.py_buffer(b"x" * num_chars)
    return pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(view), text])


def listed(values: pa.Array, rows: int) -> pa.Array:
    """Every row is the whole of the values."""
    return pa.ListViewArray.from_arrays([0] * rows, [len(values)] * rows, values)


def stream(folder: Path, column: pa.Array) -> Path:
    path = folder / "task.arrow"
    table = pa.table({"question": column})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    return path


def runs(rows: int) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], "int32"), ["x" * 50_000_000])


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (lambda: shared(50_000_000, 5_000), "{'too_long': 5000}"),
        (lambda: runs(5_000), "{'too_long': 5000}"),
        (lambda: viewed(50_000_000, 5_000), "copy of what they share"),
        (lambda: viewed(50_000_000, 50), "{'too_long': 50}"),
        (lambda: shared(10_000_000, 5_000), "copy of what they share"),
        (lambda: listed(pa.array(["x" * 1000] * 50_000), 5_000), "{'too_long': 5000}"),
        (lambda: listed(pa.array([1] * 3_000_000, "int8"), 50), "{'too_long': 50}"),
        (lambda: pa.StructArray.from_arrays([shared(50_000_000, 99)], ["a"]), "{'too_long': 99}"),
        (lambda: pa.nulls(50_000_000), "50000000 rows and values in"),
    ],
)
def test_rows_of_a_stream_that_share_a_long_value_take_little_memory(
    tmp_path: Path, column: Callable[[], pa.Array], says: str
) -> None:
    assert says in read_bounded(stream(tmp_path, column()))
