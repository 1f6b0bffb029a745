"""The microworld's student, really scored: a full grid and a race, each on an engine of its own.

An engine first scores held-out problems, so that it is warm and knows the instructions' prefixes;
the problems to select by are new to it. So neither run finds the other's prompts in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.score_tables import ScoreTable
from orca2_gen.config import load_config
from orca2_gen.config_schema import Config
from orca2_gen.ledger import Receipt
from orca2_gen.plan import selection_rule
from orca2_gen.records import StudentScore
from orca2_gen.shards import read_records
from orca2_gen.summaries import cell_value
from orca2_gen.tables import selections
from ray_jobs.dispatch import dispatch
from ray_jobs.pipeline import read_tasks, select_strategies
from ray_jobs.run import Run, engine_work, open_run
from ray_jobs.units import committed_problems, groups, score_units

CONFIG = Path(__file__).parent.parent / "ray_jobs" / "configs" / "microworld.toml"
HELD_OUT = ".held_out"


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveScoring:
    """What scoring the student came to, start of the engine and warm-up left out."""

    seconds: float
    completion_tokens: int
    chosen: dict[str, str]
    """Task -> its selected strategy."""
    tables: list[ScoreTable]
    """Of a full grid: one per task."""


def live_scoring(
    run_dir: Path, method: str, *, delta: float, block_size: int, warm_up_tasks: int | None = None
) -> LiveScoring:
    """The microworld's tasks, scored and selected for.

    Args:
        run_dir: a new run directory.
        method: full_grid or race.
        delta: of the race.
        block_size: problems of a block.
        warm_up_tasks: so many held-out tasks are scored before the clock starts; None means all,
            which a grid needs for its tables.
    """
    config = _config(run_dir, method, delta, block_size)
    timed = [task.name for task in config.tasks if not task.name.endswith(HELD_OUT)]
    warm = [task.name for task in config.tasks if task.name.endswith(HELD_OUT)][:warm_up_tasks]
    with open_run(config, _untracked) as run:
        read_tasks(run)
        _, seconds = _score(run, warm, timed)
        select_strategies(run)
        receipts = [r for r in run.ledger.committed("scores") if r.group in timed]
        is_grid = not selection_rule(config).is_race
        return LiveScoring(
            seconds=seconds,
            completion_tokens=sum(r.counts["completion_tokens"] for r in receipts),
            chosen=_chosen(run, timed),
            tables=[_table(run, name) for name in timed] if is_grid else [],
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
    return config.model_copy(update={"tasks": (*config.tasks, *held_out)})


def _score(run: Run, *rounds: Sequence[str]) -> list[float]:
    """Scores these groups, round after round on one engine; returns each round's seconds."""
    problems = committed_problems(run)
    found = {group.name: group for group in groups(problems)}
    is_race = selection_rule(run.config).is_race

    def advance(receipt: Receipt) -> None:
        if is_race:
            work.waiting.extendleft(score_units(run, found[receipt.group], problems))

    seconds = []
    with engine_work(run, run.config.student, (), advance) as work:
        for names in rounds:
            for name in names:
                work.waiting.extend(score_units(run, found[name], problems))
            started = perf_counter()
            dispatch(run.ledger, [work])
            seconds.append(perf_counter() - started)
        assert not work.replicas.has_died
    return seconds


def _table(run: Run, task: str) -> ScoreTable:
    names = selection_rule(run.config).strategies
    cells = _cells(run, task)
    held_out = _cells(run, task + HELD_OUT)
    num_problems = len(cells) // len(names)
    scores = np.array([[cell_value(s) for s in cells if s.strategy == name] for name in names])
    assert scores.shape == (len(names), num_problems), "every problem under every strategy"
    return ScoreTable(
        scores=scores,
        tokens=np.array([_mean(s.num_completion_tokens for s in _of(cells, n)) for n in names]),
        held_out=np.array([_mean(cell_value(s) for s in _of(held_out, n)) for n in names]),
    )


def _cells(run: Run, group: str) -> list[StudentScore]:
    """In the order in which they were drawn, the same under every strategy."""
    receipts = [r for r in run.ledger.committed("scores") if r.group == group]
    return [s for r in receipts for s in read_records(run.run_dir, r.files[0], StudentScore)]


def _of(cells: Sequence[StudentScore], strategy: str) -> list[StudentScore]:
    return [score for score in cells if score.strategy == strategy]


def _mean(values: Iterator[Any]) -> float:
    return float(np.mean(list(values)))


def _chosen(run: Run, names: Sequence[str]) -> dict[str, str]:
    found = {s.group: s.strategy for s in selections(run.ledger)}
    return {name: found[name] for name in names}


@contextmanager
def _untracked(stage: str, total: int | None) -> Iterator[Any]:
    yield lambda receipt: None
