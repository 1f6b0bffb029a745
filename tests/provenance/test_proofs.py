from __future__ import annotations

import dataclasses
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.proofs import Proofs, find_proofs
from orca2_gen.run_directory.arrow_files import read_records, write_table
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.ledger_lines import encoded_lines
from orca2_gen.run_directory.units import (
    CHECKSUM_KEY,
    METADATA_KEY,
    STAGES,
    Receipt,
    UnitName,
    read_unit,
    write_unit,
)
from tests.provenance.histories import BAD, History, Units, with_rule

KEYS = {stage: "k" for stage in STAGES if stage != "evaluation"}
HISTORY = History(
    tasks={"sums": [""] * 9, "letters": ["", BAD]}, rule=with_rule(), select_by="task"
)
SUMS = ("problems", "sums-000001")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def units(run_dir: Path) -> Units:
    return HISTORY.go_on(run_dir, {}, "first").units


def proofs_of(run_dir: Path, keys: dict[str, str] = KEYS) -> Proofs:
    return find_proofs(run_dir, keys, held_out=())


def write_lines(run_dir: Path, *receipts: Receipt) -> None:
    (run_dir / "ledger.jsonl").write_bytes(encoded_lines(receipts, "")[0])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def late(run_dir: Path, receipt: Receipt, **changes: Any) -> Receipt:
    """Another attempt at a unit, without its first row."""
    record = RECORDS[receipt.stage]
    accepted, rejected = read_unit(run_dir, receipt, record)
    name = UnitName(
        stage=receipt.stage,
        stage_key=receipt.stage_key,
        unit=receipt.unit,
        group=receipt.group,
        attempt=7,
    )
    return write_unit(run_dir, name, accepted[1:], record, rejected, changes.get("counts"))


def test_every_unit_is_proved_by_its_files_alone(run_dir: Path, units: Units) -> None:
    proofs = proofs_of(run_dir)
    assert proofs == Proofs(units=proofs.units) and proofs.units == units


def test_every_unit_is_proved_by_its_line(run_dir: Path, units: Units) -> None:
    write_lines(run_dir, *units.values())
    assert proofs_of(run_dir) == Proofs(units=units, listed=set(units))


@pytest.mark.parametrize("has_checksum", [True, False])
@pytest.mark.parametrize("stage", ["problems", "scores"])
def test_a_flipped_bit_anywhere_leaves_no_unit_or_the_receipt_as_it_was(
    tmp_path: Path, run_dir: Path, units: Units, stage: str, has_checksum: bool
) -> None:
    """Group, counts and name of the unit stand in the file, in two places."""
    receipt = next(r for (of_stage, _), r in units.items() if of_stage == stage)
    entry, record = receipt.accepted, RECORDS[stage]
    wanted = read_records(run_dir, entry, record)
    if not has_checksum:
        entry = without_checksum(run_dir, entry.path)
    path = tmp_path / "alone" / entry.path
    path.parent.mkdir(parents=True)
    whole = (run_dir / entry.path).read_bytes()
    path.write_bytes(whole)
    assert proofs_of(tmp_path / "alone").units.keys() == {(stage, receipt.unit)}
    draw = random.Random(1)
    described = [
        place
        for first in (whole.find(b'{"counts"'), whole.rfind(b'{"counts"'))
        for place in range(first - 60, first + 400)
    ]
    num_taken = 0
    for place in [*described, *draw.sample(range(len(whole)), 500)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        for taken in proofs_of(tmp_path / "alone").units.values():
            num_taken += 1
            assert dataclasses.replace(taken, files=()) == dataclasses.replace(receipt, files=())
            assert read_records(tmp_path / "alone", taken.accepted, record) == wanted
    assert num_taken < 900


def without_checksum(run_dir: Path, path: str) -> Any:
    """Writes a file as the first version that described files did."""
    with pa.ipc.open_file(pa.py_buffer((run_dir / path).read_bytes())) as reader:
        table = reader.read_all()
    metadata = table.schema.metadata
    assert metadata.keys() == {METADATA_KEY, CHECKSUM_KEY}
    del metadata[CHECKSUM_KEY]
    return write_table(run_dir, path, table.replace_schema_metadata(metadata))


@pytest.mark.parametrize("stage", ["problems", "scores", "rationales", "examples"])
def test_where_a_line_names_a_unit_no_other_attempt_is_that_unit(
    run_dir: Path, units: Units, stage: str
) -> None:
    name, receipt = next(item for item in units.items() if item[0][0] == stage)
    path = run_dir / receipt.accepted.path
    write_lines(run_dir, *units.values())
    late(run_dir, receipt)
    copy = path.with_name(f"{receipt.unit}.a9-0.arrow")
    shutil.copy(path, copy)
    cut(path)
    # The committed bytes are the unit under whatever attempt's name.
    found = proofs_of(run_dir).units[name]
    assert found.attempt == 9 and found.accepted.sha256 == receipt.accepted.sha256
    copy.unlink()
    assert name not in proofs_of(run_dir).units


@pytest.mark.parametrize("size", [3 << 30, 200 << 30])
def test_a_sparse_file_is_refused_before_it_is_read(run_dir: Path, units: Units, size: int) -> None:
    path = run_dir / units[SUMS].accepted.path
    whole = path.read_bytes()
    with open(path, "r+b") as file:  # a beginning and an end that are an Arrow file's
        file.truncate(len(whole) // 4)
        file.seek(size)
        file.write(whole)
    started = time.monotonic()
    proofs = proofs_of(run_dir)
    assert time.monotonic() - started < 10
    assert SUMS not in proofs.units and any("expected at most" in line for line in proofs.unproved)


def test_a_unit_of_which_two_lines_differ_is_not_proved(run_dir: Path, units: Units) -> None:
    write_lines(run_dir, units[SUMS], late(run_dir, units[SUMS]))
    proofs = proofs_of(run_dir)
    assert SUMS not in proofs.units
    assert "problems/sums-000001: two lines of the ledger commit it" in proofs.unproved


def test_a_unit_of_problems_that_left_a_trace_is_lost(run_dir: Path, units: Units) -> None:
    path = run_dir / units[SUMS].accepted.path
    whole = path.read_bytes()
    cut(path)
    assert proofs_of(run_dir).lost == {"sums-000001": ""}
    write_lines(run_dir, units[SUMS])
    assert proofs_of(run_dir).lost == {"sums-000001": "sums"}
    path.unlink()
    assert proofs_of(run_dir).lost == {"sums-000001": "sums"}
    path.write_bytes(whole)
    assert proofs_of(run_dir).lost == {}
    # So do its rejections.
    (run_dir / units["problems", "letters-000000"].accepted.path).unlink()
    assert proofs_of(run_dir).lost == {"letters-000000": ""}


def test_what_config_json_says_nothing_of_is_proved_by_lines_alone(
    run_dir: Path, units: Units
) -> None:
    keys = {stage: key for stage, key in KEYS.items() if stage != "rationales"}
    proofs = proofs_of(run_dir, keys)
    assert {stage for stage, _ in proofs.units} == {stage for stage, _ in units} - {"rationales"}
    assert all("restore config.json from a copy" in line for line in proofs.unproved)
    write_lines(run_dir, *units.values())
    assert proofs_of(run_dir, keys).units == units


def written(stage: str, unit: str, group: str = "sums", **counts: int) -> Callable[[Path], object]:
    name = UnitName(stage=stage, stage_key="k", unit=unit, group=group)
    return lambda run_dir: write_unit(run_dir, name, [], RECORDS[stage], (), counts)


def first_attempt(number: str) -> Callable[[Path], object]:
    def make(run_dir: Path) -> None:
        [path] = (run_dir / "problems").glob("sums-000001.*")
        shutil.copy(path, path.with_name(f"sums-000001.a{number}-0.arrow"))

    return make


ODD: dict[str, Callable[[Path], object]] = {
    "attempt 0": first_attempt("0"),
    "no number": written("problems", "sums"),
    "a number of other digits": written("problems", "sums-\u00b2"),
    "a number of five digits": written("problems", "sums-00002"),
    "a number of 40 digits": written("problems", "sums-" + "0" * 40),
    "scores of another group": written("scores", "sums-000009", "letters"),
    "scores without number": written("scores", "sums"),
    "a selection of another name": written("selections", "other"),
    "a selection without a row": written("selections", "none", "none"),
    "rationales without number": written("rationales", "sums"),
    "a negative count": written("problems", "more-000000", "more", open=-1),
    "another input": written("problems", "more-000000", "more", input=77),
    "a group of 1 MiB": written("problems", "more-000000", "g" * (1 << 20)),
    "100,000 counts": written(
        "problems", "more-000000", "more", **{f"n{number}": 1 for number in range(100_000)}
    ),
    "an evaluation of nothing": written("evaluation", "student-k-more-000000", "more"),
    "an evaluation without its key": written("evaluation", "student-more-000000", "more"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_files_prove_nothing_that_a_ledger_could_not_list(
    run_dir: Path, units: Units, what: str
) -> None:
    ODD[what](run_dir)
    proofs = proofs_of(run_dir)
    assert proofs.units == units and proofs.unproved
    write_lines(run_dir, *proofs.units.values())
    assert read_ledger(run_dir).units == proofs.units
