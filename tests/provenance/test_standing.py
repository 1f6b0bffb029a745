"""The law of recovery: what stands of a run, and what a driver makes anew beside it, are one run.

The engines of the second driver answer otherwise than those of the first, so whatever stands and
does not follow from what else stands shows as a fault.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from orca2_gen.provenance.standing import standing_units
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from tests.provenance.histories import History, Units, drawn, lost_units, with_rule


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def standing(history: History, run_dir: Path, left: Units, lost: dict[str, str]) -> Units:
    proved = Ledger(run_dir=run_dir, writable=False, units=left)
    return standing_units(proved, history.rule, lost=lost, by_task=history.select_by == "task")


@pytest.mark.parametrize("seed", range(60))
def test_what_stands_and_what_is_made_anew_are_one_run(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    history = drawn(draw)
    whole = history.go_on(tmp_path, {}, f"first {seed}")
    assert history.faults(whole) == []
    gone = lost_units(history, whole.units, draw)
    left = {name: receipt for name, receipt in whole.units.items() if name not in gone}
    lost = {
        unit: draw.choice(["", whole.units["problems", unit].group])
        for stage, unit in sorted(gone)
        if stage == "problems" and draw.random() < 0.3
    }
    kept = standing(history, tmp_path, left, lost)
    assert kept.items() <= left.items()
    assert {name for name in left if name[0] == "problems"} <= kept.keys()
    assert history.faults(history.go_on(tmp_path, dict(kept), f"second {seed}")) == []


@pytest.mark.parametrize("seed", range(60))
def test_whichever_attempt_at_a_unit_is_proved_nothing_stands_that_was_made_from_another(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    history = drawn(draw)
    units = history.go_on(tmp_path, {}, f"first {seed}").units
    chance = draw.choice([0.1, 0.3])
    left = {
        name: history.late(tmp_path, units, receipt)
        if receipt.stage in ("scores", "rationales") and draw.random() < chance
        else receipt
        for name, receipt in units.items()
        if receipt.stage == "problems" or draw.random() < 0.9
    }
    kept = standing(history, tmp_path, left, {})
    assert kept.items() <= left.items()
    assert history.faults(history.go_on(tmp_path, dict(kept), f"second {seed}")) == []


@pytest.mark.parametrize("seed", range(20))
def test_of_a_run_that_was_interrupted_everything_stands(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    history = drawn(draw)
    made = list(history.go_on(tmp_path, {}, "first").units.items())
    num_problems = sum(stage == "problems" for (stage, _), _ in made)
    left = dict(made[: draw.randint(num_problems, len(made))])
    assert standing(history, tmp_path, left, {}) == left


@pytest.mark.parametrize("policy", ["fixed:b", "random"])
def test_a_choice_that_rests_on_no_score_stands_without_the_problems(
    tmp_path: Path, policy: str
) -> None:
    history = History(tasks={"sums": [""] * 30}, rule=with_rule(policy=policy), select_by="task")
    units = history.go_on(tmp_path, {}, "first").units
    left = {
        name: receipt
        for name, receipt in units.items()
        if name not in [("problems", "sums-000001"), ("selections", "sums")]
    }
    assert standing(history, tmp_path, left, {}) == left


def test_many_groups_take_no_longer_than_their_units() -> None:
    """It was the square of their number: 72 s for these."""

    def receipt(stage: str, unit: str, group: str) -> Receipt:
        return Receipt(
            stage=stage,
            stage_key="k",
            unit=unit,
            attempt=1,
            group=group,
            counts={"input": 1, "accepted": 1, "rejected": 0},
            files=(FileEntry(path=f"{stage}/{unit}", rows=1, bytes=1, sha256=""),),
        )

    units = {
        (stage, unit): receipt(stage, unit, f"t{task}")
        for task in range(200)
        for stage, num in (("problems", 20), ("scores", 2))
        for unit in (f"t{task}-{number:06d}" for number in range(num))
    }
    started = time.monotonic()
    proved = Ledger(run_dir=Path("/nowhere"), writable=False, units=units)
    kept = standing_units(proved, with_rule(policy="fixed:a"), lost={}, by_task=True)
    assert time.monotonic() - started < 8
    assert kept == units
