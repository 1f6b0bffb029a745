"""Real scoring of the microworld's student: a full grid and a race, each on an engine of its own.

An engine first scores one held-out task, so that it is warm and has the instructions' prefixes in
its cache; the problems of the selection are new to it. So neither run finds the other's prompts in
a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.selection.score_tables import ScoreTable
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.records import Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group
from orca2_gen.selection.decision import cell_value, next_step
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.model_engines import engine_work
from ray_jobs.pipeline import read_tasks
from ray_jobs.run import Run, open_run
from ray_jobs.stages import tally_of
from ray_jobs.units import Problems, committed_problems, groups, score_units

CONFIG = Path(__file__).parents[2] / "ray_jobs" / "configs" / "microworld.toml"
HELD_OUT = ".held_out"


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveScoring:
    """The cost and result of scoring the student, without engine start and warm-up."""

    seconds: float
    completion_tokens: int
    chosen: dict[str, str]
    """Task -> its selected strategy."""
    tables: list[ScoreTable]
    """One table per task of a full grid."""


def live_scoring(
    run_dir: Path, method: str, *, delta: float, block_size: int, with_held_out: bool = False
) -> LiveScoring:
    """The LiveScoring of the microworld's tasks.

    Args:
        run_dir: a new run directory.
        method: full_grid or race.
        delta: delta of the race.
        block_size: problems of a block, at least.
        with_held_out: whether a full grid also scores the held-out tasks, once the clock has
            stopped, and returns tables.
    """
    config = _config(run_dir, method, delta, block_size)
    names = [task.name for task in config.tasks]
    timed = [name for name in names if not name.endswith(HELD_OUT)]
    warm_up, *held_out = [name for name in names if name.endswith(HELD_OUT)]
    with open_run(config, _untracked) as run:
        read_tasks(run)
        problems = committed_problems(run)
        found = {group.name: group for group in groups({name: problems[name] for name in timed})}
        # Held-out tasks are not groups of this selection: more groups would shrink its blocks.
        others = groups({name: problems[name] for name in (warm_up, *held_out)})
        found |= {group.name: group for group in others}
        rounds = [[warm_up], timed, held_out if with_held_out else []]
        _, seconds, _ = _score(run, found, problems, rounds)
        receipts = [r for r in run.ledger.committed("scores") if r.group in timed]
        return LiveScoring(
            seconds=seconds,
            completion_tokens=sum(r.counts["completion_tokens"] for r in receipts),
            chosen={name: _chosen(run, found[name]) for name in timed},
            tables=[_table(run, name) for name in timed] if with_held_out else [],
        )


def _config(run_dir: Path, method: str, delta: float, block_size: int) -> Config:
    config = load_config(
        CONFIG,
        [
            f"run_dir={run_dir}",
            f"selection.method={method}",
            f"selection.delta={delta}",
            f"selection.block_size={block_size}",
            "selection.indifference=0.0",
        ],
    )
    held_out = [t.model_copy(update={"name": t.name + HELD_OUT}) for t in config.evaluation.tasks]
    # Held-out tasks are read as tasks on purpose: they are no copies here.
    update = {"tasks": (*config.tasks, *held_out), "decontaminate": None}
    return config.model_copy(update=update)


def _score(
    run: Run, found: Mapping[str, Group], problems: Problems, rounds: Sequence[Sequence[str]]
) -> list[float]:
    """Seconds of each round of scoring these groups, round after round on one engine."""
    is_race = run.rule.is_race

    def advance(receipt: Receipt) -> None:
        if is_race:
            work.waiting.extendleft(score_units(run, found[receipt.group], problems))

    seconds = []
    tally = tally_of(run, "scores")
    with engine_work(run, "scores", run.config.student, (), tally, advance) as work:
        for names in rounds:
            for name in names:
                work.waiting.extend(score_units(run, found[name], problems))
            started = perf_counter()
            dispatch(run.ledger, [work])
            seconds.append(perf_counter() - started)
        assert not work.replicas.has_died
    return seconds


def _table(run: Run, task: str) -> ScoreTable:
    names = run.rule.strategies
    cells = _cells(run, task)
    held_out = _cells(run, task + HELD_OUT)
    num_problems = len(cells) // len(names)
    scores = np.array([[cell_value(s) for s in cells if s.strategy == name] for name in names])
    assert scores.shape == (len(names), num_problems), "every problem under every strategy"
    return ScoreTable(
        scores=scores,
        tokens=np.array([_mean(s.num_answer_tokens for s in _of(cells, n)) for n in names]),
        held_out=np.array([_mean(cell_value(s) for s in _of(held_out, n)) for n in names]),
    )


def _cells(run: Run, group: str) -> list[StudentScore]:
    """The scores of a group in the order of the draw, the same under every strategy."""
    receipts = [r for r in run.ledger.committed("scores") if r.group == group]
    return [s for r in receipts for s in read_records(run.run_dir, r.accepted, StudentScore)]


def _of(cells: Sequence[StudentScore], strategy: str) -> list[StudentScore]:
    return [score for score in cells if score.strategy == strategy]


def _mean(values: Iterator[Any]) -> float:
    return float(np.mean(list(values)))


def _chosen(run: Run, group: Group) -> str:
    receipts = [r for r in run.ledger.committed("scores") if r.group == group.name]
    blocks = [read_records(run.run_dir, r.accepted, StudentScore) for r in receipts]
    selection = next_step(group, run.rule, dict(enumerate(blocks)))
    assert isinstance(selection, Selection)
    return selection.strategy


@contextmanager
def _untracked(stage: str, amount: Amount) -> Iterator[Any]:
    yield lambda receipt: None
