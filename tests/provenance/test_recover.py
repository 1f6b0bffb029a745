from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
import shutil
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.recover import plan_recovery, recover
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.ledger_lines import DamagedLedger
from orca2_gen.run_directory.units import STAGES, UnitName, write_unit
from orca2_gen.run_directory.unlisted import SET_ASIDE, set_aside_unlisted
from tests.conftest import Call, FinishedRun, quiet
from tests.faults.fail_points import end_everywhere
from tests.faults.test_damages import older_copy
from tests.run_directory.test_ledger import LOST


def tree(folder: Path) -> dict[str, str]:
    """Path -> digest of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def rows(run_dir: Path) -> dict[str, list[str]]:
    """Stage -> its committed rows."""
    ledger = read_ledger(run_dir)
    return {
        stage: sorted(
            repr(row)
            for receipt in ledger.committed(stage)
            for row in read_records(run_dir, receipt.accepted, RECORDS[stage])
        )
        for stage in STAGES
    }


@pytest.mark.parametrize("has_tip", [True, False])
@pytest.mark.parametrize("how", [how for how in LOST if "device" not in how])
def test_a_lost_ledger_comes_back_with_every_unit(
    run_copy: Path, how: str, has_tip: bool, orca2: Call
) -> None:
    before = read_ledger(run_copy).units
    if not has_tip:
        (run_copy / "ledger.tip.json").unlink()
    LOST[how](run_copy / "ledger.jsonl")
    code, out, err = orca2("recover", run_copy, "--yes")
    assert (code, err) == (0, ""), out
    assert f"the ledger now lists {len(before)} units, " in out
    assert read_ledger(run_copy).units == before
    found = verify(run_copy)
    assert (found.findings, found.notes) == ([], [])


def test_without_yes_nothing_changes(run_copy: Path, orca2: Call) -> None:
    path = run_copy / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = tree(run_copy)
    code, out, _ = orca2("recover", run_copy)
    assert code == 0 and "nothing was changed; with --yes the ledger would list" in out
    assert tree(run_copy) == before
    with pytest.raises(DamagedLedger):
        read_ledger(run_copy)


def test_a_whole_ledger_is_left_as_it_is(run_copy: Path, orca2: Call) -> None:
    before = tree(run_copy)
    for arguments in ([], ["--yes"]):
        code, out, _ = orca2("recover", run_copy, *arguments)
        assert code == 0 and "its ledger is whole, so there is nothing to recover" in out
    assert tree(run_copy) == before


def test_a_flipped_bit_in_a_line_costs_nothing(run_copy: Path) -> None:
    before = read_ledger(run_copy).units
    path = run_copy / "ledger.jsonl"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    plan = recover(run_copy)
    assert (len(plan.receipts), plan.num_listed) == (len(before), len(before) - 1)
    assert read_ledger(run_copy).units == before
    assert (run_copy / SET_ASIDE / "ledger.jsonl").read_bytes() == bytes(body)


def test_a_directory_that_is_no_run_is_left_alone(tmp_path: Path, orca2: Call) -> None:
    (tmp_path / "problems").mkdir()
    code, _, err = orca2("recover", tmp_path, "--yes")
    assert code == 2 and "holds no config.json, which says which units belong to a run" in err
    assert [path.name for path in tmp_path.iterdir()] == ["problems"]


def test_of_two_attempts_that_differ_neither_is_taken(run_copy: Path) -> None:
    ledger = read_ledger(run_copy)
    receipt = ledger.committed("rationales")[0]
    record = RECORDS["rationales"]
    found = read_records(run_copy, receipt.accepted, record)
    name = UnitName(
        stage=receipt.stage,
        stage_key=receipt.stage_key,
        unit=receipt.unit,
        group=receipt.group,
        attempt=7,
    )
    write_unit(run_copy, name, found[1:], record, (), {})
    (run_copy / "ledger.jsonl").unlink()
    plan = plan_recovery(run_copy)
    [line] = plan.unproved
    assert line.startswith(f"rationales/{receipt.unit}: 2 attempts at it differ")
    # What was made from it rests on it.
    assert plan.fallen == (("examples", receipt.unit),)
    write_unit(run_copy, dataclasses.replace(name, attempt=8), found[1:], record, part="p1-9")
    (run_copy / "rationales" / f"{receipt.unit}.a7-0.arrow").unlink()
    again = plan_recovery(run_copy)  # a part of a unit is not the unit
    assert (again.unproved, again.fallen) == ((), ())
    assert {(r.stage, r.unit): r for r in again.receipts} == ledger.units


def test_a_damaged_file_is_never_taken(run_copy: Path) -> None:
    """Whatever byte of a file changes, its unit is either not proved or the rows are the same."""
    receipt = read_ledger(run_copy).committed("scores")[0]
    (run_copy / "ledger.jsonl").unlink()
    path = run_copy / receipt.accepted.path
    whole = path.read_bytes()
    record = RECORDS["scores"]
    wanted = read_records(run_copy, receipt.accepted, record)
    draw = random.Random(3)
    num_refused = 0
    for place in draw.sample(range(len(whole)), 60):
        changed = whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))])
        changed += whole[place + 1 :]
        path.write_bytes(changed)
        found = {(r.stage, r.unit): r for r in plan_recovery(run_copy).receipts}
        taken = found.get(("scores", receipt.unit))
        if taken is None:
            num_refused += 1
        else:
            assert read_records(run_copy, taken.accepted, record) == wanted
    assert num_refused > 20


@pytest.mark.parametrize("seed", range(6))
def test_a_recovered_run_goes_on_to_the_rows_of_an_undisturbed_one(
    undisturbed: FinishedRun, run_copy: Path, seed: int
) -> None:
    """Files and lines are lost at random; what is recovered and what is made again fit together."""
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    draw = random.Random(seed)
    before = read_ledger(run_copy).units
    for receipt in before.values():
        if draw.random() < 0.25:
            path = run_copy / draw.choice(receipt.files).path
            fate = draw.randrange(3)
            if fate == 0:
                path.unlink()
            elif fate == 1:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                shutil.copy(path, path.with_name(f"{receipt.unit}.a9-0.arrow"))
    path = run_copy / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if draw.random() < 0.5))
    plan = recover(run_copy)
    kept = read_ledger(run_copy).units
    assert {(r.stage, r.unit): r for r in plan.receipts} == kept
    assert all(
        [entry.sha256 for entry in receipt.files] == [e.sha256 for e in before[name].files]
        for name, receipt in kept.items()
    )
    config = load_config(undisturbed.config_file, [f"run_dir={run_copy}"])
    with open_run(config, quiet) as run:
        run_all(run)
    assert kept.items() <= read_ledger(run_copy).units.items()
    found = verify(run_copy)
    assert (found.findings, found.notes) == ([], [])
    assert rows(run_copy) == rows(undisturbed.run_dir)


def test_units_made_under_other_settings_are_not_taken(run_copy: Path) -> None:
    receipt = read_ledger(run_copy).committed("problems")[0]
    record = RECORDS["problems"]
    found = read_records(run_copy, receipt.accepted, record)
    name = UnitName(stage="problems", stage_key="0" * 32, unit="more-000000", group="more")
    write_unit(run_copy, name, found, record)
    (run_copy / "ledger.jsonl").unlink()
    plan = plan_recovery(run_copy)
    assert plan.unproved == (
        "problems/more-000000: was made under other settings than config.json's",
    )


def test_files_of_an_older_version_are_named_and_kept(run_copy: Path) -> None:
    """They prove nothing by themselves, but with their line they do."""
    from orca2_gen.run_directory.arrow_files import write_records

    ledger = read_ledger(run_copy)
    first = ledger.committed("problems")[0]
    found = read_records(run_copy, first.accepted, RECORDS["problems"])
    entry: FileEntry = write_records(run_copy, first.accepted.path, found, RECORDS["problems"])
    assert entry.sha256 != first.accepted.sha256
    (run_copy / "ledger.jsonl").unlink()
    plan = recover(run_copy)
    assert plan.unproved == (
        f"{entry.path}: an older version wrote it, which did not say what it holds",
    )
    assert (run_copy / SET_ASIDE / entry.path).exists()


def test_a_recovery_that_ends_at_any_disk_call_is_done_by_the_next(tmp_path: Path) -> None:
    """Files of an older version prove nothing without the ledger's lines."""
    older_run = older_copy(tmp_path / "RUN")
    path = older_run / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"sha256", b"sha257", 1)
    path.write_bytes(b"".join(lines))
    wanted = {(receipt.stage, receipt.unit) for receipt in plan_recovery(older_run).receipts}
    assert len(lines) > len(wanted) > 10
    copies = (older_run.parent / f"copy {number}" for number in itertools.count())
    folders = (Path(shutil.copytree(older_run, copy)) for copy in copies)

    def again(run_dir: Path) -> None:
        recover(run_dir)
        assert read_ledger(run_dir).units.keys() == wanted
        assert not plan_recovery(run_dir).damage
        set_aside_unlisted(read_ledger(run_dir, writable=True))  # as the next driver does
        assert list(run_dir.rglob("*.tmp-*")) == []

    assert end_everywhere(folders, recover, again) > 10
