from __future__ import annotations

import dataclasses
import hashlib
import os
import resource
import signal
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen import records
from orca2_gen.records import Example, Message, Rejection
from orca2_gen.run_directory import arrow_files
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_records, write_records
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.record_tables import to_table

CLASSES = [c for c in vars(records).values() if dataclasses.is_dataclass(c)]


def resolve(hint: Any) -> st.SearchStrategy[Any]:
    if dataclasses.is_dataclass(hint):
        return record_of(hint)
    if hint is str:
        return st.text(max_size=8)
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is bool:
        return st.booleans()
    return st.lists(resolve(hint.__args__[0]), max_size=3).map(tuple)


def record_of(record: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(record)
    return st.builds(record, **{f.name: resolve(hints[f.name]) for f in dataclasses.fields(record)})


@pytest.mark.parametrize("record", CLASSES)
@given(data=st.data())
def test_every_record_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, record: type, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(record_of(record), max_size=4))
    root = tmp_path_factory.mktemp("shards")
    entry = write_records(root, "scores/a.arrow", rows, record)
    assert read_records(root, entry, record) == rows
    assert entry.rows == len(rows)
    assert entry.bytes == (root / entry.path).stat().st_size


@given(rows=st.lists(record_of(Example), max_size=4))
def test_same_records_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Example]
) -> None:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    assert write_records(one, "a.arrow", rows, Example) == write_records(
        two, "a.arrow", list(rows), Example
    )


def rejections(num: int) -> list[Rejection]:
    return [
        Rejection(problem_id=f"t/train/{n}", stage="problems", reason="r", detail="d")
        for n in range(num)
    ]


def test_many_batches_come_back_in_order(tmp_path: Path) -> None:
    rows = rejections(3 * arrow_files.ROWS_PER_BATCH + 1)
    assert (
        read_records(tmp_path, write_records(tmp_path, "a.arrow", rows, Rejection), Rejection)
        == rows
    )


@pytest.fixture
def entry(tmp_path: Path) -> FileEntry:
    return write_records(tmp_path, "problems/a.arrow", rejections(50), Rejection)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, entry: FileEntry) -> None:
    whole = (tmp_path / entry.path).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / entry.path).write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="bytes"):
            read_records(tmp_path, entry, Rejection)


def test_a_file_with_any_flipped_byte_is_refused(tmp_path: Path, entry: FileEntry) -> None:
    whole = (tmp_path / entry.path).read_bytes()
    for position in range(0, len(whole), 37):
        body = bytearray(whole)
        body[position] ^= 1
        (tmp_path / entry.path).write_bytes(body)
        with pytest.raises(DamagedFile, match="SHA-256"):
            read_records(tmp_path, entry, Rejection)


def test_an_absent_file_is_refused(tmp_path: Path, entry: FileEntry) -> None:
    (tmp_path / entry.path).unlink()
    with pytest.raises(DamagedFile, match="absent"):
        read_records(tmp_path, entry, Rejection)


def test_a_directory_in_a_files_place_is_refused(tmp_path: Path, entry: FileEntry) -> None:
    (tmp_path / entry.path).unlink()
    (tmp_path / entry.path).mkdir()
    with pytest.raises(DamagedFile):
        read_records(tmp_path, entry, Rejection)


def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path: Path, entry: FileEntry) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / entry.path)
    for path in (f"../{entry.path}", str(tmp_path / entry.path), "link", f"a/../../{entry.path}"):
        with pytest.raises(DamagedFile, match="leads out"):
            read_records(root, dataclasses.replace(entry, path=path), Rejection)


def test_a_file_of_other_rows_or_columns_than_listed_is_refused(
    tmp_path: Path, entry: FileEntry
) -> None:
    with pytest.raises(DamagedFile, match="50 rows"):
        read_records(tmp_path, dataclasses.replace(entry, rows=49), Rejection)
    with pytest.raises(DamagedFile, match="holds no rows of Message"):
        read_records(tmp_path, entry, Message)


def test_a_write_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "file", b"x")
    write_bytes(tmp_path / "new" / "file", b"yy")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").read_bytes() == b"yy"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    write_bytes(tmp_path / "file", b"old")
    child = os.fork()
    if child == 0:  # the limit cannot be raised again, so it is set in a child
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_bytes(tmp_path / "file", b"x" * 100_000)
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


def test_what_arrow_cannot_hold_is_refused_before_any_file_is_there(tmp_path: Path) -> None:
    bad = Rejection(problem_id="\ud800", stage="s", reason="r", detail="d")
    with pytest.raises((UnicodeEncodeError, pa.ArrowInvalid)):
        write_records(tmp_path, "a.arrow", [bad], Rejection)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    name: str
    weight: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    problem_id: str
    count: int = 7
    words: tuple[str, ...] = ()
    inner: tuple[Inner, ...] = ()


def without(table: pa.Table, *names: str) -> pa.Table:
    """The table as a version without these fields would have written it; `inner.x` is a field of
    the nested record.
    """
    rows = table.to_pylist()
    for name in names:
        outer, _, nested = name.partition(".")
        for row in rows:
            if not nested:
                del row[outer]
            for item in row[outer] if nested else ():
                del item[nested]
    fields = []
    for field in table.schema:
        inside = field.type
        if field.name == "inner" and "inner.weight" in names:
            item = pa.struct([pa.field("name", pa.string(), False)])
            inside = pa.list_(pa.field("item", item, False))
        if field.name not in names:
            fields.append(pa.field(field.name, inside, False))
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def write_table(root: Path, table: pa.Table) -> FileEntry:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    (root / "a.arrow").write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path="a.arrow", rows=table.num_rows, bytes=len(body), sha256=digest)


@given(
    rows=st.lists(st.builds(Outer, inner=st.lists(st.builds(Inner)).map(tuple)), min_size=1),
    lacking=st.sets(st.sampled_from(["count", "words", "inner.weight"])),
)
def test_a_column_that_a_file_lacks_takes_the_fields_default(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Outer], lacking: set[str]
) -> None:
    root = tmp_path_factory.mktemp("older")
    entry = write_table(root, without(to_table(rows, Outer), *lacking))
    defaults = {"count": 7, "words": ()}
    expected = [
        dataclasses.replace(
            row,
            **{name: value for name, value in defaults.items() if name in lacking},
            inner=tuple(Inner(name=i.name) for i in row.inner)
            if "inner.weight" in lacking
            else row.inner,
        )
        for row in rows
    ]
    assert read_records(root, entry, Outer) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["problem_id"]), "lacks the column 'problem_id'"),
        (lambda t: t.append_column("more", pa.array([1])), "has a column 'more'"),
        (lambda t: t.set_column(1, "count", pa.array(["7"])), "has 'count' as string"),
    ],
)
def test_any_other_difference_in_columns_is_damage_that_names_the_column(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    entry = write_table(tmp_path, change(to_table([Outer(problem_id="a")], Outer)))
    with pytest.raises(DamagedFile, match=said):
        read_records(tmp_path, entry, Outer)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.touch() or os.truncate(path, 200 << 30),
    ],
)
@pytest.mark.parametrize("read", [arrow_files.checked_bytes, arrow_files.check_file])
def test_whatever_lies_in_a_files_place_is_damage_and_nothing_waits(
    tmp_path: Path,
    entry: FileEntry,
    make: Callable[[Path], object],
    read: Callable[[Path, FileEntry], object],
) -> None:
    path = tmp_path / entry.path
    path.unlink()
    make(path)
    with pytest.raises(DamagedFile, match=r"a\.arrow"):
        read(tmp_path, entry)


def test_a_sparse_file_that_its_list_fits_is_not_read(tmp_path: Path, entry: FileEntry) -> None:
    os.truncate(tmp_path / entry.path, 200 << 30)
    with pytest.raises(DamagedFile, match="expected at most"):
        read_records(tmp_path, dataclasses.replace(entry, bytes=200 << 30), Rejection)


@pytest.mark.parametrize("name", ["n" * 4096, "a\0b", "d/" * 2100])
def test_a_name_that_no_file_can_have_is_damage(
    tmp_path: Path, entry: FileEntry, name: str
) -> None:
    with pytest.raises(DamagedFile) as found:
        read_records(tmp_path, dataclasses.replace(entry, path=name), Rejection)
    assert "\n" not in str(found.value) and len(str(found.value)) < 1000


@pytest.mark.parametrize("num_bytes", [500, 50_000])
def test_a_write_that_fails_names_the_file_and_its_bytes(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "f"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match=rf"while writing {num_bytes} bytes: '{path}'"):
            write_bytes(path, b"x" * num_bytes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert list(tmp_path.iterdir()) == []
