"""Page headers: what they state counts, and damage of them is one line."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.tasks.columnar import read_columnar
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.pages import chunk_pages, row_groups
from tests.tasks.reading import (
    PLAIN_TABLE,
    long_texts,
    parquet_bytes,
    read_bounded,
    sample_file,
)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=3000), st.sampled_from(["1.0", "2.0"]))
def test_the_pages_of_a_chunk_hold_its_values(texts: list[str], version: str) -> None:
    body = parquet_bytes(
        pa.table({"a": texts, "b": [[text, "x"] for text in texts]}),
        data_page_version=version,
        data_page_size=100,
        write_batch_size=50,
        row_group_size=1000,
    )
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    groups = row_groups(pa.py_buffer(body), 2)
    assert len(groups) == metadata.num_row_groups
    for group, found in enumerate(groups):
        theirs = metadata.row_group(group)
        assert (found.rows, found.unpacked) == (theirs.num_rows, theirs.total_byte_size)
        for leaf in range(2):
            chunk = theirs.column(leaf)
            ours = found.chunks[leaf]
            assert (ours.packed, ours.values) == (chunk.total_compressed_size, chunk.num_values)
            pages = chunk_pages(pa.py_buffer(body), ours)
            assert sum(page.values for page in pages) == chunk.num_values
            assert sum(page.packed for page in pages) < chunk.total_compressed_size
            assert sum(page.unpacked for page in pages) < chunk.total_uncompressed_size


def test_a_page_that_a_footer_belittles_is_measured_by_its_own_header(tmp_path: Path) -> None:
    table = pa.table({"question": long_texts(200_000_000, 1)})
    body = parquet_bytes(table, compression="zstd", use_dictionary=False, write_statistics=False)
    footer_at = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    footer = pq.ParquetFile(io.BytesIO(body)).metadata
    stated = varint(2 * footer.row_group(0).column(0).total_uncompressed_size)
    assert body.count(stated, footer_at) >= 1
    lie = body[:footer_at] + body[footer_at:].replace(stated, b"\x80" * (len(stated) - 1) + b"\0")
    path = tmp_path / "rows.parquet"
    path.write_bytes(lie)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size == 0
    assert "a page of column 'question' unpacks from" in read_bounded(path)


def varint(value: int) -> bytes:
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


@given(st.binary(max_size=60), st.integers(0, 400))
def test_no_damage_of_a_parquet_file_is_more_than_one_line(piece: bytes, at: int) -> None:
    body = bytearray(parquet_bytes(PLAIN_TABLE))
    body[at : at + len(piece)] = piece[: max(0, len(body) - at)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        path.write_bytes(body)
        try:
            list(read_columnar(TaskFile(path=path, name=path.name, is_alone=True), []))
        except ValueError as error:
            assert f"task file {path}: " in str(error) and "\n" not in str(error)


_FLIP = """
import sys
from pathlib import Path
from tests.tasks.reading import read
path, body = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
for at in range(len(body)):
    for bit in (0, 3, 6):
        path.write_bytes(body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :])
        try:
            read(path, format="parquet")
        except ValueError:
            pass
print("alive")
"""


def test_no_flipped_bit_of_a_file_ends_the_process(tmp_path: Path) -> None:
    """Bindings of pyarrow let a C++ exception through, which ends the process without a word."""
    path = sample_file(tmp_path, "parquet")
    ended = subprocess.run(
        [sys.executable, "-c", _FLIP, str(path)], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "alive\n", ended.stderr[-2_000:]
