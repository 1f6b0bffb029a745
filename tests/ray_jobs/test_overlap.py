"""The overlapped schedule makes the same units, in another order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from orca2_gen.config.load import load_config
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import Receipt, read_ledger
from ray_jobs.demo import CONFIG
from ray_jobs.engines import placement
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.run import open_run
from tests.conftest import NUM_LETTERS, FinishedRun, quiet
from tests.faults.faulty import FaultyActor, happened, plant
from tests.faults.oracle import assert_whole
from tests.ray_jobs.test_pipeline import dataset_bytes, ids, rows
from tests.ray_jobs.test_real_engines import small

pytestmark = pytest.mark.usefixtures("local_ray")
# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

OVERLAPPED = "dispatch.schedule=overlapped"
AFTER_SUMS = {f"letters/train/{n}": "rationales/sums-*" for n in range(NUM_LETTERS)}


def run(file: Path, run_dir: Path, *sets: str) -> list[str]:
    """The stages of a run's receipts, as they were committed."""
    order: list[str] = []

    @contextmanager
    def track(stage: str, total: int | None) -> Iterator[Callable[[Receipt], None]]:
        yield lambda receipt: order.append(receipt.stage)

    config = load_config(file, [f"run_dir={run_dir}", OVERLAPPED, *sets])
    with open_run(config, track) as opened:
        run_all(opened)
    return order


def assert_same(run_dir: Path, undisturbed: FinishedRun) -> None:
    ours, theirs = read_ledger(run_dir).units, read_ledger(undisturbed.run_dir).units
    assert ours.keys() == theirs.keys()
    assert_whole(run_dir, undisturbed.run_dir)
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


def test_one_task_is_taught_while_another_is_scored_and_every_byte_is_the_same(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    plant(run_dir, waits_for=AFTER_SUMS)  # no letter is scored before a sum has been taught
    order = run(undisturbed.config_file, run_dir)
    last_score = len(order) - order[::-1].index("scores")
    assert "rationales" in order[:last_score]
    assert_same(run_dir, undisturbed)


def test_what_either_schedule_has_committed_the_other_goes_on_from(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    config = load_config(undisturbed.config_file, [f"run_dir={run_dir}"])
    with open_run(config, quiet) as opened:
        read_tasks(opened)
        score_student(opened)
        select_strategies(opened)
    order = run(undisturbed.config_file, run_dir)
    assert "scores" not in order and "selections" not in order and "rationales" in order
    assert_same(run_dir, undisturbed)
    assert run(undisturbed.config_file, run_dir) == []


def test_engines_that_die_in_either_model_cost_no_row(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    asked = ids(rows(read_ledger(undisturbed.run_dir), "scores")[0])
    scored, unscored = "sums/train/s0", "sums/train/s3"
    assert asked[scored] and not asked[unscored]  # so one ends a student's engine, one a teacher's
    plant(run_dir, die_on={scored: 1, unscored: 1})
    run(undisturbed.config_file, run_dir, "dispatch.backoff_seconds=0.1")
    assert happened(run_dir, "die_on") == 2
    assert_same(run_dir, undisturbed)


def test_a_policy_that_scores_nothing_starts_no_student(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    order = run(undisturbed.config_file, run_dir, "selection.policy=random")
    assert "scores" not in order and order.count("selections") == 2
    assert verify(run_dir).findings == []
    phased = tmp_path / "phased" / "run"  # of the same name
    run(undisturbed.config_file, phased, "selection.policy=random", "dispatch.schedule=phased")
    assert dataset_bytes(run_dir) == dataset_bytes(phased)


def worker_cores(actor: Any) -> list[set[int]]:
    """The cores on which each rank of this living engine may compute."""
    pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    workers = [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if process.name().startswith("VLLM::Worker")
        and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
    ]
    # vLLM binds the thread that computes, which is the first, and not those that wait for messages.
    return [set(os.sched_getaffinity(worker.pid)) for worker in workers]


@pytest.mark.engine
@pytest.mark.slow
def test_two_real_engines_run_at_once_on_a_core_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    # The last of the student's answers wait until the teacher has been seen beside it.
    plant(run_dir, waits_for={f"river/train/river-train-{n:03d}": "../seen" for n in range(24)})
    config = load_config(CONFIG, small(run_dir, 24, OVERLAPPED))
    together: list[list[list[set[int]]]] = []

    @contextmanager
    def track(stage: str, total: int | None) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if receipt.stage == "rationales" and not together:
                engines = [replicas.all[0] for replicas in opened.replicas]
                assert engines[0].open_, "the student has work as well"
                together.append([worker_cores(r.engine.actor) for r in engines if r.engine])
                (tmp_path / "seen").touch()

        yield advance

    with open_run(config, track) as opened:
        run_all(opened)
    [[student, teacher]] = together
    [on_student], [on_teacher] = student, teacher
    assert len(on_student) == len(on_teacher) == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert not on_student & on_teacher
    assert verify(run_dir).findings == []
