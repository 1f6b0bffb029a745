"""The whole path on one page, stage by stage: each commits its units to the ledger, so any of them can be run again.

    tasks -> problems -> scores -> selections -> rationales -> examples -> dataset         (and: evaluation)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from orca2_gen.config import Config, engine_directory, resolved
from orca2_gen.config_schema import EngineConfig, TaskConfig
from orca2_gen.dataset import DatasetPlan, DatasetSummary, write_dataset
from orca2_gen.ledger import (
    Ledger,
    Receipt,
    UnitName,
    lock_run,
    read_ledger,
    record_stages,
    remove_unlisted,
    unlock_run,
)
from orca2_gen.lengths import Room
from orca2_gen.plan import evaluation_rooms, rooms, selection_rule, stage_determinants, stage_keys
from orca2_gen.selection import Group, blocks
from orca2_gen.shards import FileEntry
from orca2_gen.strategies import load_strategies
from ray_jobs import file_stages
from ray_jobs.dispatch import (
    Advance,
    Pool,
    close_pool,
    dispatch_engines,
    dispatch_tasks,
    start_pool,
    unwrapped,
)
from ray_jobs.leases import EngineLease, EraseLease, ReadLease, ScoreLease, SelectLease, TeachLease
from ray_jobs.placement import ray_instance

Track = Callable[[str, int | None], AbstractContextManager[Advance]]
"""(stage, number of units or None) -> a context that shows progress; its value is called with each receipt."""


@dataclass(kw_only=True, slots=True)
class Run:
    """One run directory under this driver's lock."""

    config: Config
    run_dir: Path
    ledger: Ledger
    keys: dict[str, str]
    """Stage -> its key."""
    track: Track
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall seconds spent in this process."""


@contextmanager
def open_run(config: Config, track: Track) -> Iterator[Run]:
    """A Run whose directory is locked and whose committed units fit the config, with Ray up."""
    run_dir = Path(config.run_dir).resolve()
    determinants = stage_determinants(config)
    lock_run(run_dir)
    try:
        ledger = read_ledger(run_dir, writable=True)
        record_stages(run_dir, resolved(config), determinants, ledger)
        remove_unlisted(ledger)
        with ray_instance():
            yield Run(config=config, run_dir=run_dir, ledger=ledger, keys=stage_keys(determinants), track=track)
    finally:
        unlock_run(run_dir)


def run_all(run: Run) -> DatasetSummary:
    """The dataset of a run, made from its tasks; what is committed already is not made again."""
    read_tasks(run)
    score_student(run)
    select_strategies(run)
    teach(run)
    erase(run)
    return build_dataset(run)


def read_tasks(run: Run) -> None:
    """Commits every task file as problems that fit all engines."""
    _read(run, "problems", run.config.tasks, rooms(run.config))


def score_student(run: Run) -> None:
    """Commits the scores of every block that the policy needs, of the model the policy looks at."""
    rule = selection_rule(run.config)
    teacher = run.config.selection.policy == "teacher_best"
    leases: list[EngineLease] = []
    for group in groups(run):
        for block in blocks(group, rule):
            name = _unit(run, "scores", f"{group.name}-{block.index:06d}")
            if (name.stage, name.unit) not in run.ledger.units:
                leases.append(
                    ScoreLease(
                        name=name,
                        rows=_rows(_problem_files(run.ledger, group.name), block.problems),
                        strategies=block.strategies,
                        role="teacher" if teacher else "student",
                        max_tokens=run.config.scoring.max_tokens,
                    )
                )
    requests = run.config.selection.block_size * len(rule.strategies)
    _run_engines(run, "scores", run.config.teacher if teacher else run.config.student, leases, requests)


def select_strategies(run: Run) -> None:
    """Commits one Selection per group."""
    rule = selection_rule(run.config)
    leases = []
    for group in groups(run):
        name = _unit(run, "selections", group.name)
        if (name.stage, name.unit) not in run.ledger.units:
            scored = tuple(
                (block.index, run.ledger.units["scores", f"{group.name}-{block.index:06d}"].files[0])
                for block in blocks(group, rule)
            )
            leases.append(SelectLease(name=name, group=group, rule=rule, blocks=scored))
    _run_files(run, "selections", file_stages.select_strategy, leases)


def teach(run: Run) -> None:
    """Commits the teacher's rationales for every problem, under the strategy its group selected."""
    leases: list[EngineLease] = []
    for task in run.config.tasks:
        for receipt in _receipts(run.ledger, "problems", task.name):
            name = _unit(run, "rationales", receipt.unit)
            if (name.stage, name.unit) not in run.ledger.units and receipt.counts["accepted"]:
                selection = run.ledger.units["selections", task.name].files[0]
                leases.append(TeachLease(name=name, problems=receipt.files[0], selection=selection))
    _run_engines(run, "rationales", run.config.teacher, leases, run.config.rows_per_unit)


def erase(run: Run) -> None:
    """Commits the training examples: instruction erased, encoded for the student."""
    leases = [
        EraseLease(name=_unit(run, "examples", receipt.unit), rationales=receipt.files[0])
        for receipt in run.ledger.committed("rationales")
        if ("examples", receipt.unit) not in run.ledger.units
    ]
    _run_files(run, "examples", file_stages.erase_rationales, leases)


def build_dataset(run: Run) -> DatasetSummary:
    """The `datasets` directory of all committed examples, with proof and manifest."""
    started = time.monotonic()
    plan = DatasetPlan(
        examples=tuple(receipt.files[0] for receipt in run.ledger.committed("examples")),
        tokenizer=engine_directory(run.config.student),
        prompts=run.config.erasure.prompts,
        examples_per_shard=run.config.dataset.examples_per_shard,
        key=run.keys["examples"],
        name=run.run_dir.name,
    )
    build = ray.remote(num_cpus=1, max_retries=0)(write_dataset)
    with run.track("dataset", None):
        try:
            ref = build.remote(run.run_dir, plan, load_strategies(run.config.strategies))
            summary: DatasetSummary = ray.get(ref)
        except RayTaskError as error:
            raise unwrapped(error) from None
    run.seconds["dataset"] = time.monotonic() - started
    return summary


def evaluate(run: Run, label: str, engine: EngineConfig, key: str) -> list[FileEntry]:
    """The committed score files of a model on the held-out tasks, each under the configured system messages.

    Args:
        run: read_evaluation_tasks has run in it.
        label: of the model, in unit names and progress.
        engine: the model.
        key: a hash of all that determines these scores.
    """
    leases: list[EngineLease] = []
    units = []
    for receipt in run.ledger.committed("evaluation_problems"):
        name = UnitName(stage="evaluation", stage_key=key, unit=f"{label}-{key[:8]}-{receipt.unit}")
        units.append(name.unit)
        if (name.stage, name.unit) not in run.ledger.units and receipt.files[0].rows:
            leases.append(
                ScoreLease(
                    name=name,
                    rows=((receipt.files[0], tuple(range(receipt.files[0].rows))),),
                    strategies=run.config.evaluation.messages,
                    role="student",
                    max_tokens=run.config.evaluation.max_tokens,
                )
            )
    _run_engines(run, f"evaluation {label}", engine, leases, run.config.rows_per_unit)
    return [run.ledger.units["evaluation", unit].files[0] for unit in units if ("evaluation", unit) in run.ledger.units]


def read_evaluation_tasks(run: Run) -> None:
    """Commits the held-out task files as problems."""
    _read(run, "evaluation_problems", run.config.evaluation.tasks, evaluation_rooms(run.config))


def _read(run: Run, stage: str, tasks: Sequence[TaskConfig], rooms: tuple[Room, ...]) -> None:
    committed = frozenset(receipt.unit for receipt in run.ledger.committed(stage))
    leases = [
        ReadLease(
            task=task,
            rows_per_unit=run.config.rows_per_unit,
            rooms=rooms,
            stage=stage,
            stage_key=run.keys[stage],
            committed=committed,
        )
        for task in tasks
    ]
    _run_files(run, stage, file_stages.read_problems, leases, total=None)


def groups(run: Run) -> list[Group]:
    """The selection groups with at least one accepted problem, in the config's order."""
    counts = {task.name: sum(r.files[0].rows for r in _receipts(run.ledger, "problems", task.name)) for task in run.config.tasks}
    return [Group(name=name, num_problems=num) for name, num in counts.items() if num]


def _receipts(ledger: Ledger, stage: str, task: str) -> list[Receipt]:
    """A task's receipts of a stage, in the order of its file."""
    return [r for r in ledger.committed(stage) if r.unit.rpartition("-")[0] == task]


def _problem_files(ledger: Ledger, task: str) -> list[FileEntry]:
    return [receipt.files[0] for receipt in _receipts(ledger, "problems", task)]


def _rows(files: Sequence[FileEntry], numbers: Sequence[int]) -> tuple[tuple[FileEntry, tuple[int, ...]], ...]:
    """Numbers of problems over a task's files -> each file with the rows wanted of it."""
    found = []
    first = 0
    for entry in files:
        rows = tuple(number - first for number in numbers if first <= number < first + entry.rows)
        first += entry.rows
        if rows:
            found.append((entry, rows))
    return tuple(found)


def _unit(run: Run, stage: str, unit: str) -> UnitName:
    return UnitName(stage=stage, stage_key=run.keys[stage], unit=unit)


def _run_files(run: Run, stage: str, function: Callable[..., Any], leases: Sequence[Any], total: int | None = -1) -> None:
    started = time.monotonic()
    if leases:
        remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(function)
        config = ray.put(run.config)
        with run.track(stage, len(leases) if total == -1 else total) as advance:
            dispatch_tasks(
                run.ledger,
                leases,
                lambda lease: remote.remote(run.run_dir, config, lease),
                in_flight=max(2, int(ray.cluster_resources().get("CPU", 2))),
                advance=advance,
            )
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


def _run_engines(run: Run, stage: str, engine: EngineConfig, leases: Sequence[EngineLease], requests: int) -> None:
    """Works leases of about `requests` requests off on engines of one model, which end with the stage."""
    started = time.monotonic()
    if leases:
        leases_per_engine = 1 + 2 * engine.max_num_seqs // max(1, requests)
        with run.track(stage, len(leases)) as advance, _engines(run, engine, leases_per_engine) as pool:
            dispatch_engines(run.ledger, leases, pool, leases_per_engine, advance)
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


@contextmanager
def _engines(run: Run, engine: EngineConfig, leases_per_engine: int) -> Iterator[Pool]:
    pool = start_pool(
        run.run_dir,
        engine,
        max_concurrency=2 * leases_per_engine,
        strategies=run.config.strategies,
        rationales=run.config.rationales,
        run_seed=run.config.run_seed,
    )
    try:
        yield pool
    finally:
        close_pool(pool)
