"""Our own run from task files to examples, with its engines timed from outside.

The stages are those of ray_jobs/pipeline.py. The two with engines get their units here, once the
engine is up, so that the clock begins then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import ray

from benchmarks.assembly.ground import Asked, Ground, ground_of
from benchmarks.assembly.made import Held, Made
from benchmarks.throughput.machine import engine_processes
from benchmarks.throughput.runs import untracked
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.records import Example, Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows
from orca2_gen.run_directory.units import Receipt, read_refused
from ray_jobs.dispatch.leases import EngineUnit, asking_of
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.engines.replicas import Replicas
from ray_jobs.model_engines import engine_work
from ray_jobs.pipeline import erase, read_tasks, select_strategies
from ray_jobs.run import Run, open_run
from ray_jobs.stages import tally_of
from ray_jobs.units import committed_problems, groups, score_units, teach_units

END_SECONDS = 30.0
"""Seconds for an engine's processes to be gone, before another contender's engine starts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage with an engine."""

    receipts: tuple[Receipt, ...]
    """Its receipts, in the order of the commits."""
    seconds: float
    start_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OurRun:
    """What our run made, the ground it stood on, and all that it asked, in the order of asking."""

    made: Made
    ground: Ground
    asked_student: tuple[Asked, ...]
    asked_teacher: tuple[Asked, ...]


def run_ours(config: Config) -> OurRun:
    """Makes the examples of a config in its run directory, which is new."""
    with open_run(config, untracked) as run:
        read_tasks(run)
        ground = ground_of(run)
        scored = _score(run)
        select_strategies(run)
        taught = _teach(run)
        erase(run)
        asked_student, student = _scoring_requests(run, ground, scored)
        asked_teacher, teacher = _teaching_requests(run, ground, taught)
        made = Made(
            rows=tuple(committed_rows(run.ledger, "examples", Example)),
            chosen={
                each.group: each.strategy
                for each in committed_rows(run.ledger, "selections", Selection)
            },
            student=student,
            teacher=teacher,
        )
    return OurRun(
        made=made, ground=ground, asked_student=asked_student, asked_teacher=asked_teacher
    )


def _score(run: Run) -> Stage:
    problems = committed_problems(run)
    found = {group.name: group for group in groups(problems)}
    units = [unit for group in found.values() for unit in score_units(run, group, problems)]

    def next_block(receipt: Receipt) -> Sequence[EngineUnit]:
        return score_units(run, found[receipt.group], problems) if run.rule.is_race else ()

    return _timed(run, "scores", run.config.student, units, next_block)


def _teach(run: Run) -> Stage:
    problems = committed_problems(run)
    units = [u for group in groups(problems) for u in teach_units(run, group, problems)]
    return _timed(run, "rationales", run.config.teacher, units, lambda receipt: ())


def _timed(
    run: Run,
    stage: str,
    engine: EngineConfig,
    units: Sequence[EngineUnit],
    following: Callable[[Receipt], Sequence[EngineUnit]],
) -> Stage:
    """Runs units on an engine that is up before it gets the first.

    `following` is a committed receipt -> units that it makes possible.
    """
    committed: list[Receipt] = []

    def advance(receipt: Receipt) -> None:
        committed.append(receipt)
        work.waiting.extendleft(following(receipt))

    begun = time.perf_counter()
    with engine_work(run, stage, engine, (), tally_of(run, stage), advance) as work:
        _await_start(work.replicas)
        ready = time.perf_counter()
        work.waiting.extend(units)
        dispatch(run.ledger, [work])
        done = time.perf_counter()
        assert not work.replicas.has_died
        processes = engine_processes()
    psutil.wait_procs(processes, timeout=END_SECONDS)
    return Stage(receipts=tuple(committed), seconds=done - ready, start_seconds=ready - begun)


def _await_start(replicas: Replicas) -> None:
    replicas.settle()
    while not replicas.working:
        pending = replicas.pending
        replicas.settle(ray.wait(pending, timeout=1.0)[0] if pending else ())
        if not pending:  # it failed, and starts again soon
            time.sleep(0.1)


def _scoring_requests(run: Run, ground: Ground, stage: Stage) -> tuple[tuple[Asked, ...], Held]:
    files = [receipt.accepted for receipt in stage.receipts]
    rows = [row for file in files for row in read_records(run.run_dir, file, StudentScore)]
    problems = {each.problem_id: each for found in ground.problems.values() for each in found}
    asked = [ground.asked(problems[row.problem_id], "student", row.strategy) for row in rows]
    return tuple(asked), _held(rows, stage)


def _teaching_requests(run: Run, ground: Ground, stage: Stage) -> tuple[tuple[Asked, ...], Held]:
    problems = {each.problem_id: each for found in ground.problems.values() for each in found}
    place = {problem_id: number for number, problem_id in enumerate(problems)}
    asking = asking_of(run.config.rationales, run.config.teacher, run.config.run_seed)
    rows: list[Rationale] = []
    for each in stage.receipts:
        accepted = read_records(run.run_dir, each.accepted, Rationale)
        refused = read_refused(run.run_dir, each, Rationale)
        rows += sorted([*accepted, *refused], key=lambda r: (r.attempt, place[r.problem_id]))
    asked = [
        ground.asked(
            problems[row.problem_id],
            "teacher",
            row.strategy,
            row.attempt,
            asking.sampling(row.attempt),
        )
        for row in rows
    ]
    return tuple(asked), _held(rows, stage)


def _held(rows: Sequence[StudentScore] | Sequence[Rationale], stage: Stage) -> Held:
    return Held(
        seconds=stage.seconds,
        start_seconds=stage.start_seconds,
        num_requests=len(rows),
        prompt_tokens=sum(row.num_prompt_tokens for row in rows),
        completion_tokens=sum(row.num_completion_tokens for row in rows),
    )
