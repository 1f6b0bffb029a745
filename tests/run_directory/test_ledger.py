from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.ledger_lines import DamagedLedger, line_fault
from orca2_gen.run_directory.lock import RunInUse
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit


def receipt_of(run_dir: Path, unit: str, *, attempt: int = 1, key: str = "k") -> Receipt:
    rows = [
        Rejection(problem_id=f"{unit}/{n}", stage="problems", reason="r", detail="d")
        for n in range(3)
    ]
    name = UnitName(stage="problems", stage_key=key, unit=unit, attempt=attempt)
    return write_unit(run_dir, name, rows, Rejection, rows[:1], {"prompt_tokens": 5})


def new_ledger(run_dir: Path) -> Ledger:
    ledger = read_ledger(run_dir, writable=True)
    ledger.write_tip()
    return ledger


def committed(run_dir: Path, num: int) -> list[Receipt]:
    ledger = new_ledger(run_dir)
    receipts = [receipt_of(run_dir, f"sums-{n:06d}") for n in range(num)]
    ledger.commit(receipts[:1])
    ledger.commit(receipts[1:])
    ledger.write_tip()
    return receipts


def without_tip(run_dir: Path) -> Path:
    """The ledger's path, whose tip is removed, as if an older version had written it."""
    (run_dir / "ledger.tip.json").unlink()
    return run_dir / "ledger.jsonl"


def test_only_a_commit_makes_rows_exist(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    receipt = receipt_of(tmp_path, "sums-000000")
    assert read_ledger(tmp_path).committed("problems") == []
    ledger.commit([receipt])
    [found] = read_ledger(tmp_path).committed("problems")
    assert found == receipt
    assert len(read_records(tmp_path, found.accepted, Rejection)) == 3


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_torn_last_line_is_dropped_and_its_unit_can_be_committed_again(
    tmp_path: Path, cut: int
) -> None:
    receipts = committed(tmp_path, 3)
    path = without_tip(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert "jsonl:3 was cut short" in read_ledger(tmp_path).notes[0]  # a reader leaves the file
    ledger = read_ledger(tmp_path, writable=True)
    assert ledger.committed("problems") == receipts[:2]
    ledger.commit(receipts[2:])
    again = read_ledger(tmp_path)
    assert again.committed("problems") == receipts and again.notes == []


def test_any_flipped_bit_in_any_line_is_damage_and_a_missing_newline_alone_a_torn_line(
    tmp_path: Path,
) -> None:
    committed(tmp_path, 3)
    path = without_tip(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if place == len(whole) - 1:
            assert len(read_ledger(tmp_path).units) == 2
            continue
        number = whole[:place].count(b"\n") + 1
        with pytest.raises(DamagedLedger, match=rf"jsonl:{number} (is damaged|does not follow)"):
            read_ledger(tmp_path)


def test_a_line_that_is_missing_moved_or_changed_with_its_checksum_is_noticed(
    tmp_path: Path,
) -> None:
    committed(tmp_path, 4)
    path = without_tip(tmp_path)
    a, b, c, d = path.read_bytes().splitlines(keepends=True)
    for lines in ([b, c, d], [a, c, d], [a, c, b, d], [a, b.replace(b"chain", b"chaim"), c, d]):
        path.write_bytes(b"".join(lines))
        with pytest.raises(DamagedLedger):
            read_ledger(tmp_path)
    changed = json.loads(b)
    del changed["checksum"], changed["chain"]
    changed["group"] = "another"
    body = json.dumps(changed, sort_keys=True).encode()
    changed["checksum"] = hashlib.sha256(body).hexdigest()[:16]
    changed["chain"] = json.loads(b)["chain"]
    path.write_bytes(a + json.dumps(changed, sort_keys=True).encode() + b"\n" + c + d)
    with pytest.raises(DamagedLedger, match="jsonl:2 does not follow the line before it"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_ledger_that_lost_its_end_is_refused_at_any_byte(tmp_path: Path, kept: int) -> None:
    committed(tmp_path, 3)
    path = tmp_path / "ledger.jsonl"
    whole = path.read_bytes()
    starts = [0] + [m.end() for m in re.finditer(b"\n", whole)]
    for end in (starts[kept], starts[kept] + 1, starts[kept + 1] - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedLedger, match=rf"holds {kept} whole lines, .* at least 3 were"):
            read_ledger(tmp_path, writable=True)
        assert path.read_bytes()[: starts[kept]] == whole[: starts[kept]]


def test_other_lines_than_those_that_were_committed_are_refused(tmp_path: Path) -> None:
    committed(tmp_path, 3)
    other = tmp_path / "other"
    receipts = [receipt_of(other, f"more-{n:06d}") for n in range(4)]
    (other / "problems").rename(other / "hidden")
    new_ledger(other).commit(receipts)
    (tmp_path / "ledger.jsonl").write_bytes((other / "ledger.jsonl").read_bytes())
    with pytest.raises(DamagedLedger, match="holds other lines up to 3 than were committed"):
        read_ledger(tmp_path)


LOST: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "full of NUL": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a sparse file": lambda path: os.truncate(path, 200 << 30),
    "text": lambda path: path.write_text("hello\n"),
}


@pytest.mark.parametrize("has_tip", [True, False])
@pytest.mark.parametrize("how", LOST)
def test_a_lost_ledger_is_never_taken_for_that_of_a_new_run(
    tmp_path: Path, how: str, has_tip: bool
) -> None:
    committed(tmp_path, 3)
    path = tmp_path / "ledger.jsonl" if has_tip else without_tip(tmp_path)
    LOST[how](path)
    for writable in (False, True):
        with pytest.raises(DamagedLedger, match=r"ledger\.jsonl.*orca2 recover"):
            read_ledger(tmp_path, writable=writable)


def test_a_run_killed_before_its_first_commit_is_a_new_run(tmp_path: Path) -> None:
    new_ledger(tmp_path)
    receipt_of(tmp_path, "sums-000000")
    ledger = read_ledger(tmp_path)
    assert ledger.units == {} and ledger.notes == []


def _line(row: dict[str, Any]) -> bytes:
    checksum = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]
    return (json.dumps({**row, "checksum": checksum}, sort_keys=True) + "\n").encode()


def test_a_ledger_of_an_older_version_opens_with_one_line_and_is_chained_from_then_on(
    tmp_path: Path,
) -> None:
    receipts = committed(tmp_path, 4)
    path = without_tip(tmp_path)
    path.write_bytes(b"".join(_line(dataclasses.asdict(r)) for r in receipts[:2]))
    ledger = read_ledger(tmp_path, writable=True)
    assert ledger.committed("problems") == receipts[:2]
    [note] = ledger.notes
    assert "has no ledger.tip.json, as an older version leaves it" in note
    ledger.commit(receipts[2:])
    again = read_ledger(tmp_path)
    assert again.committed("problems") == receipts and again.notes == []
    first, second, *chained = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.tip.json").unlink()
    path.write_bytes(b"".join([second, first, *chained]))
    with pytest.raises(DamagedLedger, match="jsonl:3 does not follow"):
        read_ledger(tmp_path)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
json_values = st.recursive(
    st.integers() | st.text(max_size=3), lambda v: st.dictionaries(st.text(max_size=3), v)
)
PLACES = """stage stage_key unit attempt files counts group more
files.0 files.0.rows files.0.path counts.input counts.more"""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(place=st.sampled_from(PLACES.split()), value=any_json)
def test_a_line_with_a_right_checksum_is_a_receipt_or_one_line_about_it(
    tmp_path: Path, place: str, value: Any
) -> None:
    run_dir = tmp_path / "run"
    if not run_dir.exists():
        run_dir.mkdir()
        receipt_of(run_dir, "sums-000000")
        (run_dir / "problems").rename(run_dir / "hidden")
    row = json.loads(json.dumps(dataclasses.asdict(receipt_of(tmp_path / "x", "sums-000000"))))
    *parents, last = place.split(".")
    node: Any = row
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    node[int(last) if isinstance(node, list) else last] = value
    (run_dir / "ledger.jsonl").write_bytes(_line(row))
    try:
        [receipt] = read_ledger(run_dir).units.values()
    except DamagedLedger as error:
        assert "ledger.jsonl:1 is damaged" in str(error) and "\n" not in str(error)
    else:
        assert json.loads(json.dumps(dataclasses.asdict(receipt))) == row
        assert all(type(num) is int for num in receipt.counts.values())


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"lines": "1", "chain": ""}', '{"lines": true, "chain": ""}']
)
def test_a_damaged_tip_is_damage(tmp_path: Path, body: str) -> None:
    committed(tmp_path, 1)
    (tmp_path / "ledger.tip.json").write_text(body)
    with pytest.raises(DamagedLedger, match=r"ledger\.tip\.json does not say"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("path", ["/./{}", "//{}", "/x/{}", "/../problems/{}", "/..", "/.", "/"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_line_spells_the_path_of_a_file_in_one_way(tmp_path: Path, place: int, path: str) -> None:
    """Another spelling would make a listed file one that no line lists, which is moved away."""
    [receipt] = committed(tmp_path, 1)
    folder, _, name = receipt.files[place].path.partition("/")
    files = list(receipt.files)
    files[place] = dataclasses.replace(files[place], path=folder + path.format(name))
    other = dataclasses.replace(receipt, files=tuple(files))
    without_tip(tmp_path).write_bytes(_line(dataclasses.asdict(other)))
    with pytest.raises(DamagedLedger, match="of no unit that a run makes"):
        read_ledger(tmp_path)
    assert line_fault(other) and not line_fault(receipt)


@pytest.mark.parametrize("name", ["ledger.jsonl", "ledger.tip.json"])
@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_ledger_that_cannot_be_read_now_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, name: str
) -> None:
    committed(tmp_path, 1)
    opened = os.open

    def denied(path: Any, *arguments: Any, **keywords: Any) -> int:
        if Path(path).name == name:
            raise OSError(error, os.strerror(error))
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(OSError, match=name.replace(".", r"\.")) as raised:
        read_ledger(tmp_path)
    assert not isinstance(raised.value, DamagedLedger)


def test_a_line_that_no_reader_would_take_is_never_written(tmp_path: Path) -> None:
    receipts = committed(tmp_path, 1)
    long = dataclasses.replace(receipts[0], unit="sums-000009", group="\u00e9" * 200_000)
    with pytest.raises(ValueError, match="shorten the categories in the task file"):
        read_ledger(tmp_path, writable=True).commit([long])
    assert list(read_ledger(tmp_path).units.values()) == receipts


def test_a_unit_that_two_lines_commit_is_refused(tmp_path: Path) -> None:
    receipts = committed(tmp_path, 2)
    path = without_tip(tmp_path)
    path.write_bytes(b"".join(_line(dataclasses.asdict(r)) for r in [*receipts, receipts[0]]))
    with pytest.raises(DamagedLedger, match="commits problems/sums-000000 a second time"):
        read_ledger(tmp_path)


def test_the_tip_is_never_ahead_of_the_ledger_and_never_five_seconds_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    ledger = new_ledger(tmp_path)
    for n in range(20):
        now[0] += 1.0
        ledger.commit([receipt_of(tmp_path, f"sums-{n:06d}")])
        said = json.loads((tmp_path / "ledger.tip.json").read_text())["lines"]
        assert n + 1 - 5 < said <= n + 1
    ledger.write_tip()
    assert json.loads((tmp_path / "ledger.tip.json").read_text())["lines"] == 20


def test_a_driver_whose_lock_was_taken_writes_neither_line_nor_tip(tmp_path: Path) -> None:
    receipts = committed(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def fence() -> None:
        raise RunInUse("taken over")

    ledger = read_ledger(tmp_path, writable=True, fence=fence)
    del ledger.units["problems", "sums-000001"]
    ledger.tip.written_lines = -1
    for act in (lambda: ledger.commit(receipts[1:]), ledger.write_tip):
        with pytest.raises(RunInUse):
            act()
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}


def test_the_same_unit_is_never_committed_twice(tmp_path: Path) -> None:
    [receipt] = committed(tmp_path, 1)
    with pytest.raises(AssertionError, match="committed twice"):
        read_ledger(tmp_path, writable=True).commit([dataclasses.replace(receipt, attempt=2)])
