from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import strategies as st

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import (
    Receipt,
    UnitName,
    read_ledger,
    remove_unlisted,
    unlisted_files,
    write_unit,
)
from orca2_gen.run_directory.lock import RunInUse


def receipt_of(run_dir: Path, unit: str, *, attempt: int = 1, key: str = "k") -> Receipt:
    rows = [
        Rejection(problem_id=f"{unit}/{n}", stage="problems", reason="r", detail="d")
        for n in range(3)
    ]
    name = UnitName(stage="problems", stage_key=key, unit=unit, attempt=attempt)
    return write_unit(run_dir, name, rows, Rejection, rows[:1], {"prompt_tokens": 5})


def committed(run_dir: Path, num: int) -> list[Receipt]:
    receipts = [receipt_of(run_dir, f"sums-{n:06d}") for n in range(num)]
    read_ledger(run_dir, writable=True).commit(receipts)
    return receipts


def test_only_a_commit_makes_rows_exist(tmp_path: Path) -> None:
    receipt = receipt_of(tmp_path, "sums-000000")
    assert read_ledger(tmp_path).committed("problems") == []
    read_ledger(tmp_path, writable=True).commit([receipt])
    [found] = read_ledger(tmp_path).committed("problems")
    assert found == receipt
    assert len(read_records(tmp_path, found.accepted, Rejection)) == 3


def test_a_receipt_counts_its_input_as_accepted_plus_rejected(tmp_path: Path) -> None:
    counts = receipt_of(tmp_path, "sums-000000").counts
    assert counts == {"input": 4, "accepted": 3, "rejected": 1, "prompt_tokens": 5}


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_torn_last_line_is_dropped_and_its_unit_can_be_committed_again(
    tmp_path: Path, cut: int
) -> None:
    receipts = committed(tmp_path, 3)
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read_ledger(tmp_path).torn) == 1  # a reader leaves the file alone
    ledger = read_ledger(tmp_path, writable=True)
    assert ledger.committed("problems") == receipts[:2]
    ledger.commit(receipts[2:])
    assert read_ledger(tmp_path).committed("problems") == receipts
    assert read_ledger(tmp_path).torn == []


def test_a_damaged_line_before_the_last_is_refused(tmp_path: Path) -> None:
    committed(tmp_path, 3)
    path = tmp_path / "ledger.jsonl"
    whole = path.read_bytes()
    for line in (0, 1):
        body = bytearray(whole)
        body[whole.index(b"sums-00000%d" % line)] ^= 1
        for end in (len(body), len(body) - 1, len(body) - 100):
            path.write_bytes(body[:end])
            with pytest.raises(ValueError, match=f"jsonl:{line + 1} is damaged"):
                read_ledger(tmp_path)


def test_a_unit_that_two_lines_commit_is_refused(tmp_path: Path) -> None:
    committed(tmp_path, 2)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(ValueError, match="commits problems/sums-000000 a second time"):
        read_ledger(tmp_path)


def test_unlisted_files_are_found_and_removed_and_listed_ones_stay(tmp_path: Path) -> None:
    [receipt] = committed(tmp_path, 1)
    late = receipt_of(tmp_path, "sums-000000", attempt=2)
    cut = tmp_path / "problems" / ".sums-000001.a1-0.arrow.tmp-host-1-ab"
    cut.write_bytes(b"half")
    ledger = read_ledger(tmp_path, writable=True)
    assert set(unlisted_files(ledger)) == {cut, *(tmp_path / entry.path for entry in late.files)}
    remove_unlisted(ledger)
    assert unlisted_files(ledger) == []
    assert all((tmp_path / entry.path).exists() for entry in receipt.files)


def test_nothing_is_removed_once_another_driver_has_the_run(tmp_path: Path) -> None:
    def fence() -> None:
        raise RunInUse("taken over")

    others = receipt_of(tmp_path, "sums-000000")
    with pytest.raises(RunInUse):
        remove_unlisted(read_ledger(tmp_path, writable=True, fence=fence))
    assert all((tmp_path / entry.path).exists() for entry in others.files)


def test_what_no_run_wrote_is_never_removed(tmp_path: Path) -> None:
    """A run directory may be a folder that holds something else by one of our names."""
    mine = tmp_path / "examples" / "train.py"
    (tmp_path / "problems" / "folder").mkdir(parents=True)
    mine.parent.mkdir()
    mine.write_text("precious")
    remove_unlisted(read_ledger(tmp_path, writable=True))
    assert mine.read_text() == "precious"


json_values = st.recursive(
    st.integers() | st.text(max_size=3), lambda v: st.dictionaries(st.text(max_size=3), v)
)


def test_an_attempt_stands_in_the_file_name(tmp_path: Path) -> None:
    paths = {receipt_of(tmp_path, "sums-000000", attempt=n).accepted.path for n in (1, 2)}
    assert paths == {"problems/sums-000000.a1-0.arrow", "problems/sums-000000.a2-0.arrow"}


def test_the_same_unit_is_never_committed_twice(tmp_path: Path) -> None:
    [receipt] = committed(tmp_path, 1)
    with pytest.raises(AssertionError, match="committed twice"):
        read_ledger(tmp_path, writable=True).commit([dataclasses.replace(receipt, attempt=2)])
