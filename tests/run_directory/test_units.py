from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from orca2_gen.records import Problem, Rationale, Rejection
from orca2_gen.run_directory.arrow_files import read_table, rows_digest
from orca2_gen.run_directory.ledger_lines import line_fault
from orca2_gen.run_directory.units import (
    METADATA_KEY,
    UnitName,
    origin_of,
    read_refused,
    read_unit,
    write_unit,
)
from tests.answers import ANSWER
from tests.run_directory.test_ledger import receipt_of


def test_a_receipt_counts_its_input_as_accepted_plus_rejected(tmp_path: Path) -> None:
    counts = receipt_of(tmp_path, "sums-000000").counts
    assert counts == {"input": 4, "accepted": 3, "rejected": 1, "prompt_tokens": 5}


def test_an_attempt_stands_in_the_file_name(tmp_path: Path) -> None:
    paths = {receipt_of(tmp_path, "sums-000000", attempt=n).accepted.path for n in (1, 2)}
    assert paths == {"problems/sums-000000.a1-0.arrow", "problems/sums-000000.a2-0.arrow"}


def test_a_file_says_which_unit_it_belongs_to_but_not_who_made_it(tmp_path: Path) -> None:
    first, second = (receipt_of(tmp_path, "sums-000000", attempt=n) for n in (1, 2))
    for ours, theirs, rows in zip(first.files, second.files, ("accepted", "rejected"), strict=True):
        assert ours.sha256 == theirs.sha256
        table = read_table(tmp_path, ours)
        origin = origin_of(table.schema)
        assert origin is not None
        assert (origin.stage, origin.stage_key, origin.unit) == ("problems", "k", "sums-000000")
        assert (origin.counts, origin.rows, origin.is_part) == (first.counts, rows, False)
        assert origin.rows_sha256 == rows_digest(table)


@pytest.mark.parametrize("num_rows", [0, 1, 1023, 1024, 1025, 5000])
def test_the_digest_of_rows_is_the_same_once_they_are_read_again(
    tmp_path: Path, num_rows: int
) -> None:
    problem = Problem(problem_id="p", task="t", question="q", target="a", answer_type="numeric")
    rows = [
        dataclasses.replace(problem, problem_id=f"p{n}", choices=("c",) * (n % 7))
        for n in range(num_rows)
    ]
    name = UnitName(stage="problems", stage_key="k", unit="u")
    receipt = write_unit(tmp_path, name, rows, Problem)
    table = read_table(tmp_path, receipt.accepted)
    origin = origin_of(table.schema)
    assert origin is not None and origin.rows_sha256 == rows_digest(table)
    if num_rows:
        changed = [dataclasses.replace(rows[0], question="other"), *rows[1:]]
        other = write_unit(tmp_path, dataclasses.replace(name, attempt=2), changed, Problem)
        assert rows_digest(read_table(tmp_path, other.accepted)) != origin.rows_sha256


def test_metadata_of_an_older_file_is_absent_and_foreign_metadata_is_refused() -> None:
    assert origin_of(pa.schema([])) is None
    for said in (b"", b"{}", b"null", b'{"stage": 1}'):
        with pytest.raises(ValueError, match="does not say which unit"):
            origin_of(pa.schema([], metadata={METADATA_KEY: said}))


def test_rejections_are_not_taken_for_accepted_rows(tmp_path: Path) -> None:
    receipt = receipt_of(tmp_path, "sums-000000")
    assert receipt.rejections is not None
    origin = origin_of(read_table(tmp_path, receipt.rejections).schema)
    assert origin is not None and origin.rows == "rejected"
    assert len(read_table(tmp_path, receipt.rejections)) == 1


def test_refused_answers_have_a_file_of_their_own_that_the_ledger_lists(tmp_path: Path) -> None:
    lost = [Rejection(problem_id="q", stage="rationales", reason="incorrect", detail="")]
    refused = [dataclasses.replace(ANSWER, problem_id="q", fault="incorrect")]
    for number, (rejected, others) in enumerate(itertools.product([[], lost], [[], refused])):
        name = UnitName(stage="rationales", stage_key="k", unit=f"sums-{number:06d}")
        receipt = write_unit(tmp_path, name, [ANSWER], Rationale, rejected, refused=others)
        assert line_fault(receipt) == ""
        assert read_unit(tmp_path, receipt, Rationale) == ([ANSWER], rejected)
        assert read_refused(tmp_path, receipt, Rationale) == others
        assert receipt.counts.get("refused", 0) == len(others)
        for swapped in itertools.permutations(receipt.files):
            is_swapped = swapped != receipt.files
            assert bool(line_fault(dataclasses.replace(receipt, files=swapped))) == is_swapped
        for entry in receipt.files:
            twice = dataclasses.replace(receipt, files=(*receipt.files, entry))
            assert line_fault(twice)
