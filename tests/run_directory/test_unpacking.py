from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Rejection
from orca2_gen.run_directory import unpacking
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_records, write_records
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.record_tables import arrow_schema
from orca2_gen.run_directory.units import Receipt
from orca2_gen.run_directory.unpacking import UnusableArrow, batches_unpacked, check_unpacked

NEW: dict[str, Callable[..., Any]] = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}
MOST_ROWS = (1 << 31) - 1
"""Rows that Arrow writes in one batch."""
MOST_CHILD_KB = 700_000
"""Kilobytes that a child may take in all: the program's imports, and no bomb."""


def packed(table: pa.Table, form: str, codec: str | None, rows_per_batch: int = 1024) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with NEW[form](sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return bytes(sink.getvalue().to_pybytes())


def rejections(ids: pa.Array) -> pa.Table:
    """Rows with these ids and nothing else, in the columns of text alone."""
    empty = many_rows(len(ids))
    texts = pa.schema(column for column in arrow_schema(Rejection) if column.type == pa.string())
    return pa.Table.from_arrays([ids, empty, empty, empty], schema=texts)


def zeros(size: int) -> pa.Buffer:
    return pa.py_buffer(bytes(size))


def long_text(size: int) -> pa.Array:
    """One row of so many letters."""
    return pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<ii", 0, size)), zeros(size))


def many_rows(count: int) -> pa.Array:
    return pa.StringArray.from_buffers(count, zeros(4 * (count + 1)), pa.py_buffer(b""))


def listed(root: Path, body: bytes, rows: int) -> FileEntry:
    (root / "a.arrow").write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path="a.arrow", rows=rows, bytes=len(body), sha256=digest)


def child(code: str, *arguments: str) -> tuple[int, str]:
    """The peak memory in KB of a child that runs the code, and what it printed."""
    # Not ru_maxrss: it begins with the peak of the process that this one was forked from.
    measured = (
        f"{code}\nprint(next(line.split()[1] for line in open('/proc/self/status') "
        "if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    *said, peak = done.stdout.splitlines()
    return int(peak), "\n".join(said)


READ = """
import json, sys
from pathlib import Path
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_records
try:
    print(len(read_records(Path(sys.argv[1]), FileEntry(**json.loads(sys.argv[2])), Rejection)))
except DamagedFile as error:
    print(error)
"""


@pytest.mark.parametrize("form", NEW)
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (lambda: long_text(1_600_000_000), "to 1600000"),
        (lambda: many_rows(50_000_000), "to 800000"),
        (lambda: many_rows(6_000_000), "to 24000000 values"),
    ],
    ids=["text", "rows", "values"],
)
def test_a_bomb_is_refused_before_it_takes_memory(
    tmp_path: Path, form: str, codec: str, ids: Callable[[], pa.Array], said: str
) -> None:
    table = rejections(ids())
    body = packed(table, form, codec, rows_per_batch=table.num_rows)
    entry = listed(tmp_path, body, table.num_rows)
    shown = json.dumps({name: getattr(entry, name) for name in entry.__slots__})
    del table
    peak, line = child(READ, str(tmp_path), shown)
    assert f"{tmp_path / 'a.arrow'} would unpack from {len(body)} bytes" in line and said in line
    assert peak < MOST_CHILD_KB


@pytest.mark.parametrize("form", NEW)
def test_rows_without_buffers_are_counted(tmp_path: Path, form: str) -> None:
    table = pa.table({"a": pa.Array.from_buffers(pa.null(), MOST_ROWS, [None])})
    body = packed(table, form, None, rows_per_batch=MOST_ROWS)
    with pytest.raises(UnusableArrow, match=f"{MOST_ROWS} rows, its list says 3"):
        check_unpacked(pa.py_buffer(body), 3)
    with pytest.raises(UnusableArrow, match=f"to {MOST_ROWS} values"):
        check_unpacked(pa.py_buffer(body), MOST_ROWS)


@pytest.mark.parametrize("form", NEW)
def test_dictionaries_count_too(form: str) -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0]), long_text(300_000_000))
    body = pa.py_buffer(packed(pa.table({"a": words}), form, "zstd"))
    assert [batch.rows for batch in batches_unpacked(body)] == [0, 1]
    with pytest.raises(UnusableArrow, match="bytes; expected at most 268435456"):
        check_unpacked(body, 1)


tables = st.builds(
    lambda texts, ids: pa.table({"a": texts[:20], "b": [ids] * len(texts[:20])}),
    st.lists(st.text(), min_size=1),
    st.lists(st.integers(0, 2**40)),
)


@given(table=tables, form=st.sampled_from(sorted(NEW)), codec=st.sampled_from([None, "zstd"]))
def test_the_sizes_are_those_of_the_table_that_arrow_then_reads(
    table: pa.Table, form: str, codec: str | None
) -> None:
    body = pa.py_buffer(packed(table, form, codec, rows_per_batch=7))
    found = list(batches_unpacked(body))
    assert sum(batch.rows for batch in found) == table.num_rows
    read = (pa.ipc.open_file if form == "file" else pa.ipc.open_stream)(body).read_all()
    assert sum(batch.bytes for batch in found) >= read.nbytes
    assert max(batch.bytes for batch in found) <= max(
        batch.get_total_buffer_size() + 64 for batch in read.to_batches()
    )


@given(data=st.data(), form=st.sampled_from(sorted(NEW)))
def test_whatever_is_damaged_gives_sizes_or_one_line(data: st.DataObject, form: str) -> None:
    table = pa.table({"a": ["x" * 50] * 100, "b": [[1, 2]] * 100})
    body = bytearray(packed(table, form, "zstd"))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for each in (bytes(body), bytes(body[:cut])):
        try:
            list(batches_unpacked(pa.py_buffer(each)))
        except UnusableArrow as error:
            assert "\n" not in str(error)


def test_a_length_that_lies_is_damage(tmp_path: Path) -> None:
    table = rejections(pa.array(["some words " * 30] * 500))
    body = packed(table, "file", "zstd")
    true = struct.pack("<q", 330 * 500)
    assert body.count(true) == 1
    for lie in (0, 1, 330 * 500 - 1, 330 * 500 + 1, 200 << 20, -2, -(2**63)):
        changed = body.replace(true, struct.pack("<q", lie))
        with pytest.raises(DamagedFile, match=r"a\.arrow (is damaged|is not whole|would unpack)"):
            read_records(tmp_path, listed(tmp_path, changed, 500), Rejection)


def test_a_batch_that_a_footer_names_often_counts_each_time(tmp_path: Path) -> None:
    table = rejections(pa.array(["x"] * 1000))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        for _ in range(2):
            writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    blocks = [struct.pack("<qiiq", *found) for found in _blocks(body)]
    twice = body.replace(blocks[1], blocks[0])
    assert twice != body
    assert len(list(batches_unpacked(pa.py_buffer(twice)))) == 2
    outside = body.replace(blocks[1], struct.pack("<qiiq", 1 << 40, 8, 0, 8))
    with pytest.raises(UnusableArrow, match="outside of the file"):
        list(batches_unpacked(pa.py_buffer(outside)))


def _blocks(body: bytes) -> list[tuple[int, int, int, int]]:
    (size,) = struct.unpack("<i", body[-10:-6])
    footer = unpacking._root(pa.py_buffer(body[-10 - size : -10]))
    found = unpacking._vector(footer, unpacking._FOOTER_BATCHES, unpacking._BLOCK)
    return [tuple(block) for block in found.tolist()]


def test_what_packs_too_well_is_written_unpacked_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Rejection(problem_id="p" * 500, stage="s", reason="r", detail="d")] * 3000
    packed_entry = write_records(tmp_path, "a.arrow", rows, Rejection)
    monkeypatch.setattr(unpacking, "MOST_UNPACKED_BYTES", 1000)
    monkeypatch.setattr(unpacking, "UNPACKED_PER_BYTE", 10)
    with pytest.raises(DamagedFile, match="would unpack"):
        read_records(tmp_path, packed_entry, Rejection)
    entry = write_records(tmp_path, "a.arrow", rows, Rejection)
    assert entry.bytes > 3000 * 500
    assert read_records(tmp_path, entry, Rejection) == rows


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_the_largest_unit_is_read(codec: str | None) -> None:
    """65,536 rows of 4 kB in which only a number differs, which text never does."""
    ids = pa.array([f"{row} " + "word " * 800 for row in range(65_536)])
    body = pa.py_buffer(packed(rejections(ids), "file", codec))
    check_unpacked(body, 65_536)


VERIFY = """
import sys
from orca2_gen.cli import main
try:
    sys.argv[1:1] = ["verify"]
    main()
except SystemExit as end:
    print("exit", end.code)
"""


@pytest.mark.parametrize(("form", "codec"), [("file", "zstd"), ("stream", "lz4")])
def test_verify_of_a_run_with_a_bomb_takes_no_more_memory_than_without(
    run_copy: Path, form: str, codec: str
) -> None:
    whole, said = child(VERIFY, str(run_copy))
    assert "exit 0" in said
    units = list(read_ledger(run_copy).units.values())
    shard = next((run_copy / "dataset").glob("data-*.arrow"))
    path = run_copy / units[0].accepted.path if form == "file" else shard
    path.write_bytes(packed(rejections(long_text(1_600_000_000)), form, codec))
    _list_again(run_copy, units)
    bombed, said = child(VERIFY, str(run_copy))
    assert "would unpack from" in said and "exit 1" in said
    assert bombed < whole + 100_000


def _list_again(run_dir: Path, units: list[Receipt]) -> None:
    """Makes ledger and manifest agree with the files, as whoever plants a bomb does."""
    again = [
        dataclasses.replace(unit, files=tuple(_entry(run_dir, file) for file in unit.files))
        for unit in units
    ]
    from tests.provenance.test_verify import rewrite_ledger  # large: a child measures its memory

    rewrite_ledger(run_dir, lambda _: again)
    dataset = run_dir / "dataset"
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"] = [
        dataclasses.asdict(_entry(dataset, FileEntry(**file))) for file in manifest["files"]
    ]
    (dataset / "manifest.json").write_text(json.dumps(manifest))


def _entry(root: Path, old: FileEntry) -> FileEntry:
    body = (root / old.path).read_bytes()
    if len(body) == old.bytes:
        return old
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path=old.path, rows=1, bytes=len(body), sha256=digest)
