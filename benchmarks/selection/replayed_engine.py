"""Engines that answer from a stored grid, as slowly as a real one, and count what runs on them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orca2_gen.engine import WARM_UP, Engine, EngineLoad, Request
from orca2_gen.records import Completion, StudentScore, engine_completions
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import read_ledger
from ray_jobs.engines.actor import EngineActor

GRID = "grid.json"
"""File beside the run directory: the directory of the stored grid's run, and the seconds."""
RUNNING = "running"
"""Folder beside the run directory: the times at which requests began and ended."""
COPY = "."
"""What stands between a task's name and the number of its copy."""

Span = tuple[float, float, int]
"""Begin and end of a request in the batch, by time.time(), and its tokens."""
Cells = dict[tuple[str, str, int], Any]
"""(problem id, strategy, call) -> what the real student answered."""


def stored_cells(run_dir: Path) -> Cells:
    """The cells of all committed blocks of a run, call by call."""
    found: Cells = {}
    for receipt in read_ledger(run_dir).committed("scores"):
        for score in read_records(run_dir, receipt.accepted, StudentScore):
            for call, made in enumerate(engine_completions(score)):
                found[score.problem_id, score.strategy, call] = made
    return found


class ReplayedEngine:
    """An Engine of a full batch whose sequences all make a token a step, as stored."""

    def __init__(self, cells: Cells, max_num_seqs: int, token_seconds: float) -> None:
        self._cells, self._token_seconds = cells, token_seconds
        self._batch = asyncio.Semaphore(max_num_seqs)
        self.num_generated_tokens = 0
        self.spans: list[Span] = []

    async def generate(self, request: Request) -> Completion:
        if request.problem_id == WARM_UP:
            return request.completion(
                text="", finish_reason="stop", num_cached_tokens=0, num_completion_tokens=1
            )
        task, rest = request.problem_id.split("/", 1)
        made = self._cells[f"{task.rsplit(COPY, 1)[0]}/{rest}", request.strategy, request.call]
        async with self._batch:
            begun = time.time()
            await asyncio.sleep(made.num_completion_tokens * self._token_seconds)
            self.spans.append((begun, time.time(), made.num_completion_tokens))
        self.num_generated_tokens += made.num_completion_tokens
        return request.completion(
            text=made.text,
            finish_reason=made.finish_reason,
            num_cached_tokens=0,
            num_completion_tokens=made.num_completion_tokens,
            token_ids=made.token_ids,
        )

    @property
    def is_dead(self) -> bool:
        return False

    @property
    def load(self) -> EngineLoad:
        return EngineLoad()

    def close(self) -> None:
        pass


class ReplayedActor(EngineActor):
    """An engine's actor whose engine answers from the grid that GRID names."""

    def _loaded(self) -> Engine:
        said = json.loads((self._run_dir.parent / GRID).read_text())
        cells = stored_cells(Path(said["run_dir"]))
        self._replayed = ReplayedEngine(cells, self._config.max_num_seqs, said["token_seconds"])
        return self._replayed

    async def close(self) -> None:
        folder = self._run_dir.parent / RUNNING
        folder.mkdir(exist_ok=True)
        (folder / f"{os.getpid()}.json").write_text(json.dumps(self._replayed.spans))
        await super().close()


def spans_of(run_dir: Path) -> list[Span]:
    """All requests on the engines of a run, in the order of their beginning."""
    files = sorted((run_dir.parent / RUNNING).glob("*.json"))
    return sorted((b, e, num) for file in files for b, e, num in json.loads(file.read_text()))


def mean_running(spans: Sequence[Span], until: float) -> float:
    """The mean number of requests that run from the first one's beginning to a time."""
    start = spans[0][0]
    busy = sum(min(end, until) - begun for begun, end, _ in spans if begun < until)
    return busy / (until - start)
