from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.task import TaskConfig
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import Group, block_unit
from ray_jobs.dispatch.leases import DecidedGroup, ReadLease, UnitLease
from ray_jobs.regrading.leases import RegradeGroupLease
from tests.selection.test_blocks import RULE

GROUP = Group(name="sums", num_problems=40, num_groups=2)


def entry_of(path: str) -> FileEntry:
    return FileEntry(path=path, rows=1, bytes=1, sha256="")


def receipt_of(stage: str, unit: str) -> Receipt:
    entry = entry_of(f"{stage}/{unit}")
    return Receipt(stage=stage, stage_key="k", unit=unit, attempt=1, files=(entry,), counts={})


def name_of(stage: str, unit: str) -> UnitName:
    return UnitName(stage=stage, stage_key="k", unit=unit)


@given(num_done=st.integers(0, 5))
def test_a_lost_regrading_goes_on_after_the_blocks_that_are_done(num_done: int) -> None:
    rule = dataclasses.replace(RULE, scored_problems=40, block_size=8)
    lease = RegradeGroupLease(
        source=Path("old"),
        group=GROUP,
        rule=rule,
        problems=(entry_of("problems"),),
        older_problems=None,
        stored=(receipt_of("scores", "sums-000000"),),
        made=(),
        stage_key="k",
        driver="0",
    )
    names = [block_unit(GROUP, index) for index in range(num_done)]
    done = {("scores", name): receipt_of("scores", name) for name in names}
    others = [("scores", "letters-000000"), ("problems", "sums-000000")]
    left = lease.again(done | {name: receipt_of(*name) for name in others})
    assert left.made == tuple(enumerate(done.values())) and left.attempt == lease.attempt + 1


def test_a_lost_task_is_not_tried_again_once_its_unit_has_come() -> None:
    decided = DecidedGroup(group=GROUP, rule=RULE, blocks=())
    lease = UnitLease(name=name_of("selections", "sums"), made_from=decided, what="selecting")
    assert lease.again({("selections", "sums"): receipt_of("selections", "sums")}) is None
    left = lease.again({("examples", "sums"): receipt_of("examples", "sums")})
    assert left is not None and left.attempt == lease.attempt + 1 and left.made_from == decided


@given(done=st.sets(st.sampled_from(["sums-000000", "sums-000001", "letters-000000"])))
def test_a_lost_reader_leaves_out_the_units_that_have_come(done: set[str]) -> None:
    lease = ReadLease(
        task=TaskConfig(name="sums", format="jsonl", path="sums.jsonl"),
        rows_per_unit=8,
        rooms=(),
        stage="problems",
        stage_key="k",
        driver="0",
        committed=frozenset(),
    )
    receipts = {("problems", unit): receipt_of("problems", unit) for unit in done}
    left = lease.again(receipts | {("scores", "other"): receipt_of("scores", "other")})
    assert left.committed == done and left.attempt == 2
