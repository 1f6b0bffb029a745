"""Engines that a race leaves idle, and what work ahead of it wins and costs.

    python -m benchmarks.work_ahead

The real student's grid of the microworld is stored once (vLLM). Engines that answer from it, each
token as slowly as a real engine's, then score 1 to 100 tasks: under the full grid, by a race that
is never worked ahead of, and by one that is, with `dispatch.prefer` at either value. Driver, Ray,
actors, files and races are those of any run. Tasks beyond the microworld's six are copies of them,
each in an order of its own.

`busy` is the mean number of running requests until the last block opens (of the full grid: until
its last request begins), over that of the full grid. `tokens` is over those of the race that is
never worked ahead of. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import ray
from rich.console import Console
from rich.table import Table

from benchmarks.selection import replayed_engine
from benchmarks.selection.replayed_engine import COPY, GRID, mean_running, spans_of, stored_cells
from orca2_gen.config.engine import ScriptedEngineConfig
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.run_directory.units import Receipt
from ray_jobs.cluster import ray_instance
from ray_jobs.demo import CONFIG
from ray_jobs.engines import ahead, placement
from ray_jobs.pipeline import read_tasks, score_student
from ray_jobs.run import Run, open_run

NUM_TASKS = (1, 2, 4, 8, 100)
MANY = 8
"""Tasks up to which all of the grid's problems are scored, of more a share."""
TOKEN_SECONDS = 0.02
"""Seconds of a step of a full batch: about an 8B model's on one GPU."""
NEVER, GRID_METHOD = "never ahead", "full grid"
WAYS = (GRID_METHOD, NEVER, "fewest_tokens", "shortest_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One way to score some tasks."""

    seconds: float
    """From the first request's beginning to the last one's end."""
    running: float
    """See `busy`."""
    tokens: int
    """All tokens that engines made, dropped ones included."""
    selected: dict[str, int]
    """Unit of scores -> its survivors."""


def scored(
    run_dir: Path, grid: Path, way: str, num_tasks: int, num_engines: int, sequences: int
) -> Scored:
    """The figures of scoring `num_tasks` tasks on replayed engines in one of the WAYS."""
    run_dir.parent.mkdir(parents=True)
    said = {"run_dir": str(grid), "token_seconds": TOKEN_SECONDS}
    (run_dir.parent / GRID).write_text(json.dumps(said))
    config = _config(run_dir, way, num_tasks, num_engines, sequences)
    commits: dict[str, list[float]] = {}

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Any]:
        def advance(receipt: Receipt) -> None:
            if stage == "scores":
                commits.setdefault(receipt.group, []).append(time.time())

        yield advance

    never = Fraction(0) if way == NEVER else ahead.MOST_DROPPED
    with (
        mock.patch.object(placement, "EngineActor", replayed_engine.ReplayedActor),
        mock.patch.object(ahead, "MOST_DROPPED", never),
        open_run(config, track) as run,
    ):
        read_tasks(run)
        score_student(run)
        return _figures(run, way, commits)


def _figures(run: Run, way: str, commits: dict[str, list[float]]) -> Scored:
    spans = spans_of(run.run_dir)
    # A block opens when the one before it is committed.
    opened = [times[-2] for times in commits.values() if len(times) > 1]
    last_begun = max(begun for begun, _, _ in spans)
    until = max(opened) if opened and way != GRID_METHOD else last_begun
    return Scored(
        seconds=max(end for _, end, _ in spans) - spans[0][0],
        running=mean_running(spans, until),
        tokens=sum(num for _, _, num in spans),
        selected={r.unit: r.counts.get("survivors", 0) for r in run.ledger.committed("scores")},
    )


def _config(run_dir: Path, way: str, num_tasks: int, num_engines: int, sequences: int) -> Config:
    prefer = way if way not in (NEVER, GRID_METHOD) else "fewest_tokens"
    config = load_config(
        CONFIG,
        [
            f"run_dir={run_dir}",
            f"selection.method={'full_grid' if way == GRID_METHOD else 'race'}",
            f"selection.scored_problems={200 if num_tasks <= MANY else 32}",
            "selection.block_size=16",
            f"dispatch.prefer={prefer}",
        ],
    )
    # Rows of copies are no copies here, and each copy is a race of its own.
    copies = run_dir.parent / "tasks"
    copies.mkdir()
    tasks = []
    for number in range(-(-num_tasks // len(config.tasks))):
        for task in config.tasks:
            name = f"{task.name}{COPY}{number}"
            path = shutil.copyfile(task.path, copies / f"{name}.jsonl")  # no file is read twice
            tasks.append(task.model_copy(update={"name": name, "path": str(path)}))
    student = ScriptedEngineConfig(
        engine="scripted",
        tokenizer=config.student.model,  # type: ignore[union-attr]
        max_model_len=config.student.max_model_len,
        max_num_seqs=sequences,
        replicas=num_engines,
    )
    update = {"tasks": tuple(tasks[:num_tasks]), "decontaminate": None, "student": student}
    return config.model_copy(update=update)


def store_grid(run_dir: Path) -> None:
    """Scores the microworld's tasks under all strategies, by the real student."""
    every = ["selection.method=full_grid", "selection.scored_problems=1000000"]
    config = load_config(CONFIG, [f"run_dir={run_dir}", *every])
    with open_run(config.model_copy(update={"decontaminate": None}), _untracked) as run:
        read_tasks(run)
        score_student(run)


@contextmanager
def _untracked(stage: str, amount: Amount) -> Iterator[Any]:
    yield lambda receipt: None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grid", type=Path, help="Run directory of a stored grid, made if absent.")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(NUM_TASKS))
    parser.add_argument("--engines", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=32, help="Batch of each engine.")
    chosen = parser.parse_args(arguments)
    if min(chosen.tasks) < 1 or chosen.engines < 1 or chosen.sequences < 1:
        parser.error("expected at least 1 task, 1 engine and 1 sequence")
    ray.cloudpickle.register_pickle_by_value(replayed_engine)
    title = f"{chosen.engines} engines of {chosen.sequences} sequences"
    table = Table(title=title, title_justify="left")
    for column in ("tasks", "way", "busy", "seconds", "tokens"):
        table.add_column(column, justify="left" if column == "way" else "right")
    figures: dict[str, Any] = {}
    with TemporaryDirectory(prefix="orca2-ahead-") as folder, ray_instance():
        grid = chosen.grid or Path(folder) / "grid" / "run"
        if not grid.exists():
            store_grid(grid)
        assert stored_cells(grid)
        for num in chosen.tasks:
            found = {
                way: scored(
                    *(Path(folder) / f"{num}-{place}" / "run", grid, way, num),
                    *(chosen.engines, chosen.sequences),
                )
                for place, way in enumerate(WAYS)
            }
            figures[str(num)] = _rows(table, num, found)
            print(num, json.dumps(figures[str(num)]), file=sys.stderr, flush=True)
    Console(width=100).print(table)
    print(json.dumps(figures))


def _rows(table: Table, num_tasks: int, found: dict[str, Scored]) -> dict[str, Any]:
    """Figures of the ways to score so many tasks, which are added to the table too."""
    grid, never = found[GRID_METHOD], found[NEVER]
    rows: dict[str, Any] = {}
    for way, each in found.items():
        # However far it is worked ahead, the same strategies fall in the same blocks.
        assert way == GRID_METHOD or each.selected == never.selected
        rows[way] = {
            "busy": round(each.running / grid.running, 2),
            "seconds": round(each.seconds, 1),
            "tokens": round(each.tokens / never.tokens, 3),
        }
        shown = [f"{value}" for value in rows[way].values()]
        table.add_row(str(num_tasks) if way == GRID_METHOD else "", way, *shown)
    return rows


if __name__ == "__main__":
    main()
