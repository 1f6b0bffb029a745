from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.calls import compose
from orca2_gen.provenance.fork import fork_run
from orca2_gen.provenance.recover import recover
from orca2_gen.provenance.refused_faults import is_what_was_said
from orca2_gen.provenance.trace import trace
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Completion, Rationale, Rejection
from orca2_gen.run_directory.arrow_files import read_table, write_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import (
    Receipt,
    UnitName,
    origin_of,
    read_refused,
    read_unit,
    write_unit,
)
from tests.conftest import Call
from tests.provenance.test_verify import assert_found, rewrite_ledger

Rows = list[Any]
Change = Callable[[Rows, Rows, Rows], None]
"""Changes the accepted, rejected and refused rows of a unit."""


def with_refused(run_dir: Path) -> Receipt:
    """The first unit of rationales that refused answers and rejected a problem."""
    units = read_ledger(run_dir).committed("rationales")
    return next(r for r in units if r.refused is not None and r.rejections is not None)


def rewrite_unit(run_dir: Path, change: Change, counts: dict[str, int] | None = None) -> None:
    """Makes a unit again with other rows, as whoever computes each checksum again would."""
    old = with_refused(run_dir)
    accepted, rejected = read_unit(run_dir, old, Rationale)
    refused = read_refused(run_dir, old, Rationale)
    change(accepted, rejected, refused)
    name = UnitName(
        stage=old.stage, stage_key=old.stage_key, unit=old.unit, group=old.group, driver="e"
    )
    kept = {n: c for n, c in old.counts.items() if n.endswith("_tokens")} | (counts or {})
    origin = origin_of(read_table(run_dir, old.accepted).schema)
    assert origin is not None
    new = write_unit(
        run_dir,
        name,
        accepted,
        Rationale,
        rejected,
        kept,
        refused=refused,
        engine=origin.engine,
    )
    for entry in old.files:
        (run_dir / entry.path).unlink()
    rewrite_ledger(run_dir, lambda all_: [new if r == old else r for r in all_])


def replaced(rows: Rows, at: int, **changes: Any) -> None:
    rows[at] = dataclasses.replace(rows[at], **changes)


def last_of(rows: Sequence[Rationale], problem_id: str) -> int:
    return max(at for at, row in enumerate(rows) if row.problem_id == problem_id)


def test_the_answers_that_a_whole_run_refused_are_sound(run_copy: Path) -> None:
    assert with_refused(run_copy).counts["refused"] > 0
    rewrite_unit(run_copy, lambda *rows: None)
    assert verify(run_copy).findings == []


CHANGES: dict[str, tuple[Change, str]] = {
    "another text": (lambda a, r, f: replaced(f, 0, text="  "), "has the fault"),
    "another prompt": (lambda a, r, f: replaced(f, 0, user="2 + 2?"), "texts"),
    "another instruction": (lambda a, r, f: replaced(f, 0, system="Think."), "texts"),
    "another strategy": (
        lambda a, r, f: replaced(f, 0, strategy="extract_generate"),
        "its group selected",
    ),
    "another problem": (
        lambda a, r, f: replaced(f, 0, problem_id="sums/train/none"),
        "no problem of its unit",
    ),
    "no fault": (lambda a, r, f: replaced(f, 0, fault=""), "no answer is refused for"),
    "an unknown fault": (lambda a, r, f: replaced(f, 0, fault="dull"), "no answer is refused for"),
    "a later attempt": (lambda a, r, f: replaced(f, 0, attempt=7), "expected all from 0"),
    "twice": (lambda a, r, f: f.insert(1, f[0]), "expected all from 0"),
    "one less": (lambda a, r, f: f.pop(0), "attempts"),
    "the last one lost": (
        lambda a, r, f: f.pop(last_of(f, r[0].problem_id)),
        "1 attempts are accepted",
    ),
    "another order": (lambda a, r, f: f.reverse(), "in the order"),
    "another last fault": (
        lambda a, r, f: replaced(f, last_of(f, r[0].problem_id), fault="unparsed"),
        "its last answer as 'unparsed'",
    ),
    "another reason": (
        lambda a, r, f: replaced(r, 0, reason="repeated"),
        "rejected as 'repeated'",
    ),
    "an accepted one with a fault": (
        lambda a, r, f: replaced(a, 0, fault="incorrect"),
        "is accepted and has a fault",
    ),
    "one call more": (
        lambda a, r, f: replaced(f, 0, completions=(said(0, f[0]),)),
        "is not what its calls said",
    ),
}


def said(call: int, row: Rationale, **changes: Any) -> Completion:
    completion = Completion(
        problem_id=row.problem_id,
        role="teacher",
        strategy=row.strategy,
        call=call,
        attempt=row.attempt,
        text=f"part {call}",
        finish_reason="stop",
        num_prompt_tokens=5,
        num_cached_tokens=0,
        num_completion_tokens=3,
    )
    return dataclasses.replace(completion, **changes)


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_a_refused_answer_that_cannot_have_come_so_is_named(
    run_copy: Path, change: Change, words: str
) -> None:
    rewrite_unit(run_copy, change)
    assert_found(run_copy, "rationales", words)


def test_a_ledger_that_counts_other_refused_answers_is_named(run_copy: Path) -> None:
    rewrite_unit(run_copy, lambda *rows: None)
    old = with_refused(run_copy)
    new = dataclasses.replace(old, counts=old.counts | {"refused": old.counts["refused"] + 1})
    rewrite_ledger(run_copy, lambda all_: [new if r == old else r for r in all_])
    assert_found(run_copy, old.unit, "refused answers, the files hold")


def test_a_ledger_that_lists_no_refused_answers_where_there_were_some_is_named(
    run_copy: Path,
) -> None:
    old = with_refused(run_copy)
    counts = {name: count for name, count in old.counts.items() if name != "refused"}
    new = dataclasses.replace(old, files=old.files[:-1], counts=counts)
    rewrite_ledger(run_copy, lambda all_: [new if r == old else r for r in all_])
    assert_found(run_copy, Path(old.accepted.path).name, "says that its counts is")


@pytest.mark.parametrize("damage", ["flip", "delete", "cut", "foreign"])
def test_a_damaged_or_foreign_file_of_refused_answers_is_named(run_copy: Path, damage: str) -> None:
    entry = with_refused(run_copy).refused
    assert entry is not None
    victim = run_copy / entry.path
    body = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "foreign":
        lost = [Rejection(problem_id="x", stage="rationales", reason="r", detail="d")]
        victim.write_bytes(
            (run_copy / write_records(run_copy, "x.arrow", lost, Rejection).path).read_bytes()
        )
    else:
        body[len(body) // 2] ^= 1
        victim.write_bytes(body if damage == "flip" else body[:-1])
    assert_found(run_copy, victim.name)


def test_a_file_of_accepted_answers_in_the_place_of_refused_ones_is_named(run_copy: Path) -> None:
    old = with_refused(run_copy)
    assert old.refused is not None
    place = run_copy / old.refused.path
    place.write_bytes((run_copy / old.accepted.path).read_bytes())
    entry = dataclasses.replace(old.accepted, path=old.refused.path)
    new = dataclasses.replace(old, files=(*old.files[:-1], entry))
    rewrite_ledger(run_copy, lambda all_: [new if r == old else r for r in all_])
    assert_found(run_copy, place.name, "by its place they are refused")


def test_a_unit_that_kept_no_refused_answer_is_whole(run_copy: Path) -> None:
    rewrite_unit(run_copy, lambda accepted, rejected, refused: refused.clear())
    shutil.rmtree(run_copy / "dataset")  # its card counts them
    assert verify(run_copy).findings == []


def test_an_answer_that_was_cut_short_lacks_its_last_calls_and_no_other_does() -> None:
    row = Rationale(
        problem_id="t/1",
        task="t",
        strategy="s",
        attempt=1,
        system="",
        user="?",
        text="part 0",
        answer="",
        num_prompt_tokens=5,
        num_completion_tokens=3,
        further_calls=("Go on.", "And now?"),
        fault="truncated",
    )

    def whole(num: int, fault: str, **changes: Any) -> Rationale:
        made = tuple(said(call, row, **changes) for call in range(num))
        joined = compose(made)
        return dataclasses.replace(
            row,
            fault=fault,
            completions=made,
            text=joined.text,
            num_prompt_tokens=joined.num_prompt_tokens,
            num_completion_tokens=joined.num_completion_tokens,
        )

    assert is_what_was_said(row)
    assert is_what_was_said(whole(2, "truncated"))
    assert is_what_was_said(whole(3, "incorrect"))
    assert is_what_was_said(whole(3, "truncated"))
    assert not is_what_was_said(dataclasses.replace(row, fault="incorrect"))
    assert not is_what_was_said(whole(2, "incorrect"))
    assert not is_what_was_said(whole(4, "truncated"))
    assert not is_what_was_said(whole(3, "incorrect", attempt=0))
    assert not is_what_was_said(dataclasses.replace(whole(3, "incorrect"), text="else"))
    assert not is_what_was_said(dataclasses.replace(whole(3, "incorrect"), num_prompt_tokens=1))


def test_without_a_ledger_a_unit_is_proved_by_its_refused_answers_too(run_copy: Path) -> None:
    before = read_ledger(run_copy).units
    whole, lost = [r for r in before.values() if r.refused is not None][:2]
    assert lost.refused is not None and whole.refused is not None
    (run_copy / lost.refused.path).unlink()
    for name in ("ledger.jsonl", "ledger.tip.json"):
        (run_copy / name).unlink()
    found = recover(run_copy)
    units = {(receipt.stage, receipt.unit): receipt for receipt in found.receipts}
    assert units["rationales", whole.unit] == whole
    assert ("rationales", lost.unit) not in units
    assert any(
        lost.unit in line and "refused answers is not there" in line for line in found.unproved
    )
    assert not (run_copy / lost.accepted.path).exists()
    assert (run_copy / "set-aside" / lost.accepted.path).is_file()


def test_a_fork_takes_refused_answers_along_and_leaves_units_that_lost_theirs(
    run_copy: Path, tmp_path: Path
) -> None:
    before = read_ledger(run_copy)
    keys = {receipt.stage: receipt.stage_key for receipt in before.units.values()}
    whole, lost = [r for r in before.units.values() if r.refused is not None][:2]
    assert lost.refused is not None and whole.refused is not None
    (run_copy / lost.refused.path).unlink()
    goal = tmp_path / "fork"
    goal.mkdir()
    found = fork_run(run_copy, Ledger(run_dir=goal, writable=True), keys)
    after = read_ledger(goal).units
    assert Path(lost.refused.path).name in "".join(found.damaged)
    assert after["rationales", whole.unit] == whole
    assert ("rationales", lost.unit) not in after and ("examples", lost.unit) not in after
    assert read_refused(goal, whole, Rationale) == read_refused(run_copy, whole, Rationale)


def test_trace_and_status_show_what_answers_were_refused_for(run_copy: Path, orca2: Call) -> None:
    counts: Counter[str] = Counter()
    for receipt in read_ledger(run_copy).committed("rationales"):
        rows = read_refused(run_copy, receipt, Rationale)
        counts.update(row.task for row in rows)
        for row in rows[:1]:
            lines = [line for step in trace(run_copy, row.problem_id) for line in step.lines]
            said = f"refused as {row.fault} under {row.strategy} at attempt {row.attempt}, "
            assert f"{said}answer {row.answer!r}" in lines
            assert not any(
                f"accepted under {row.strategy} at attempt {row.attempt}," in line for line in lines
            )
    _, out, _ = orca2("status", run_copy)
    assert counts
    assert f"{counts.total()} refused ({counts.total()} incorrect)" in out
