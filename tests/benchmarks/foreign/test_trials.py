from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.foreign import environments
from benchmarks.foreign.environments import NotInstalled, python_of
from benchmarks.foreign.ours import STUDENT, OwnTrainer, make_dataset
from benchmarks.foreign.trials import TRIALS, judged, run_trial
from benchmarks.foreign.witness import IGNORED, counted, unpadded

TRIAL = TRIALS[0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("run"), rows_per_task=2)


@pytest.fixture(scope="module")
def own(dataset: Path) -> OwnTrainer:
    return OwnTrainer(dataset, STUDENT)


def told_by(own: OwnTrainer, places: list[int]) -> dict[str, Any]:
    """What a trainer says that trains these rows first, as we do."""
    rows = [(own.rows[place].input_ids.tolist(), own.labels(place)) for place in places]
    return {
        "versions": {},
        "rows": len(own.rows),
        "trained_tokens": own.trained_tokens,
        "first_rows": rows,
        "first_loss": own.mean_loss(places),
        "steps": 2,
    }


def test_a_trainer_that_trains_as_we_do_is_equal(own: OwnTrainer) -> None:
    outcome = judged(TRIAL, told_by(own, [5, 0, 3]), own)
    assert (outcome.verdict, outcome.note, outcome.is_fault) == ("equal", "", False)


def test_every_way_to_train_otherwise_is_named(own: OwnTrainer) -> None:
    told = told_by(own, [1, 2])
    (ids, labels), second = told["first_rows"]
    faults = {
        "-1 trained tokens": {"trained_tokens": told["trained_tokens"] - 1},
        "11 rows of 12": {"rows": 11},
        "another first loss": {"first_loss": told["first_loss"] + 0.002},
        "other labels in the first step": {"first_rows": [(ids, ids), second]},
        "1 of the first 2 rows have other ids": {"first_rows": [(ids[1:], labels[1:]), second]},
        "1 of 2 steps": {"steps": 1},
    }
    for note, change in faults.items():
        outcome = judged(TRIAL, told | change, own)
        assert outcome.verdict == "differs" and note in outcome.note and outcome.is_fault


def test_a_trainer_that_refuses_is_no_equal(own: OwnTrainer) -> None:
    outcome = judged(TRIAL, {"refused": "ValueError: no", "versions": {}}, own)
    assert (outcome.verdict, outcome.is_fault) == ("refused", True)
    known = dataclasses.replace(TRIAL, known="it reads no text")
    assert not judged(known, {"refused": "ValueError: no", "versions": {}}, own).is_fault


def test_tokens_that_a_trainer_is_known_to_train_too_excuse_no_others(own: OwnTrainer) -> None:
    told, line_break = told_by(own, [4, 0]), 201
    rows = told["first_rows"]
    told["first_rows"] = [([*ids, line_break], [*labels, line_break]) for ids, labels in rows]
    told["first_loss"] = own.mean_loss([4, 0], [[line_break]] * 2)
    told["trained_tokens"] += told["rows"]
    known = dataclasses.replace(TRIAL, known="it trains a line break", more_a_row=1)
    outcome = judged(known, told, own)
    assert (outcome.verdict, outcome.is_fault) == ("differs", False)
    assert outcome.note == "it trains a line break, +1 token a row"
    for change in ({"trained_tokens": told["trained_tokens"] + 1}, {"first_loss": 0.0}):
        assert judged(known, told | change, own).is_fault
    assert judged(TRIAL, told, own).is_fault
    assert judged(known, {"refused": "no", "versions": {}}, own).is_fault


def test_a_trainer_that_the_index_does_not_give_is_untried_and_says_why(
    dataset: Path, own: OwnTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nobody.txt").write_text("orca2-gen-of-nobody==1.0\n")
    monkeypatch.setattr(environments, "PINS", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotInstalled, match="orca2-gen-of-nobody"):
        python_of("nobody", tmp_path)
    trial = dataclasses.replace(TRIAL, environment="nobody")
    outcome = run_trial(trial, dataset, STUDENT, tmp_path, own)
    assert outcome.verdict == "untried" and "orca2-gen-of-nobody" in outcome.note
    assert not outcome.is_fault


def test_every_environment_has_exact_pins_and_no_torch_of_its_own() -> None:
    for trial in TRIALS:
        if trial.environment == environments.OWN:
            continue
        lines = (environments.PINS / f"{trial.environment}.txt").read_text().splitlines()
        assert lines and all("==" in line for line in lines)
        assert not [line for line in lines if line.startswith(("torch==", "nvidia-cu"))]


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5)).map(
        lambda sizes: ([*range(1, 1 + sum(sizes))], sizes[0])
    ),
    min_size=1,
    max_size=5,
)


@given(rows=ROWS)
def test_padding_is_neither_counted_nor_seen(rows: list[tuple[list[int], int]]) -> None:
    import torch

    from benchmarks.foreign.with_torch import padded

    labelled = [(ids, [IGNORED] * prompt + ids[prompt:]) for ids, prompt in rows]
    batch = padded([{"input_ids": ids, "labels": labels} for ids, labels in labelled])
    assert unpadded(batch) == labelled
    assert counted([batch]) == (
        len(rows),
        sum(len(ids) - max(1, prompt) for ids, prompt in rows),
    )
    left = {
        "input_ids": batch["input_ids"].flip(1),
        "labels": batch["labels"].flip(1),
        "attention_mask": (batch["labels"].flip(1) != IGNORED).to(torch.int64),
    }
    assert [ids[::-1] for ids, _ in unpadded(left)] == [ids[prompt:] for ids, prompt in rows]
