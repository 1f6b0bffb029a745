"""What do an engine's figures cost: counting each row, and writing and publishing every 5 seconds?

    python -m benchmarks.figures_overhead [--requests N] [--writes N]

An engine that answers at once is asked in rows, counted as in an actor and bare, in turn: the
difference is what counting takes of the event loop. The figures of an engine with six strategies
are written, and published as metrics of Ray, as its thread does. The last line on stdout is one
JSON document; `share` is what both take of an engine that answers REQUESTS_PER_SECOND, more than
one that we have measured does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from orca2_gen.engine import EngineLoad, Request
from orca2_gen.records import Completion, StudentScore
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, figures_path
from orca2_gen.run_directory.engine_figures import write_figures as write
from ray_jobs.cluster import ray_instance
from ray_jobs.engines.figures import WRITE_SECONDS, CountedEngine
from ray_jobs.engines.ray_metrics import RayMetrics

REQUESTS_PER_SECOND = 100
"""Of one engine: 3,200 tokens a second in answers of 32, and more in longer ones."""
STRATEGIES = 6
PAIRS = 7


class Instant:
    """An engine that answers at once."""

    is_dead, num_generated_tokens, load = False, 0, EngineLoad()

    async def generate(self, request: Request) -> Completion:
        return request.completion(
            text="x", finish_reason="stop", num_cached_tokens=0, num_completion_tokens=32
        )

    def close(self) -> None:
        pass


def request_of(number: int) -> Request:
    return Request(
        problem_id="p",
        role="student",
        strategy=f"strategy_{number % STRATEGIES}",
        call=0,
        attempt=0,
        prompt_token_ids=(1,),
        max_tokens=32,
    )


async def seconds_of(num: int, *, is_counted: bool) -> float:
    """The seconds of so many rows of one request each, one after the other."""
    engine: Any = CountedEngine(Instant()) if is_counted else Instant()
    requests = [request_of(number) for number in range(num)]

    async def row(request: Request) -> StudentScore:
        made = await engine.generate(request)
        return StudentScore(
            problem_id="p",
            task="t",
            strategy=request.strategy,
            role="student",
            attempt=0,
            outcome="correct",
            score=1.0,
            answer="1",
            text=made.text,
            finish_reason="stop",
            num_prompt_tokens=1,
            num_cached_tokens=0,
            num_completion_tokens=32,
        )

    began = time.perf_counter()
    for request in requests:
        work = row(request)
        await asyncio.create_task(engine.counted(request.strategy, work) if is_counted else work)
    return time.perf_counter() - began


def milliseconds_of_a_write(folder: Path, num: int) -> float:
    """The milliseconds of writing and publishing an engine's figures."""
    names = [f"strategy_{number}" for number in range(STRATEGIES)]
    figures = EngineFigures(
        start="s",
        stage="scores",
        model="m",
        replica=0,
        node="n",
        answers=dict.fromkeys(names, Answers(requests=1000, completion_tokens=32_000)),
        rows=dict.fromkeys(names, 1000),
        outcomes={name: {"correct": 500, "incorrect": 490, "truncated": 10} for name in names},
    )
    metrics = RayMetrics()
    metrics.publish(figures)  # the first time declares them
    began = time.perf_counter()
    for _ in range(num):
        write(figures_path(folder, "m-0", "s"), figures)
        metrics.publish(figures)
    return 1000 * (time.perf_counter() - began) / num


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.figures_overhead", description="The cost of engines' figures."
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--writes", type=int, default=200)
    given = parser.parse_args(arguments)
    differences = []
    for _ in range(PAIRS):
        bare, counted = (
            asyncio.run(seconds_of(given.requests, is_counted=is_counted))
            for is_counted in (False, True)
        )
        differences.append(1e6 * (counted - bare) / given.requests)
    with tempfile.TemporaryDirectory() as folder, ray_instance(num_cpus=1):
        write_ms = milliseconds_of_a_write(Path(folder), given.writes)
    counting = median(differences) * 1e-6 * REQUESTS_PER_SECOND
    print(
        json.dumps(
            {
                "microseconds_per_row": round(median(differences), 2),
                "min_max": [round(min(differences), 2), round(max(differences), 2)],
                "milliseconds_per_write": round(write_ms, 3),
                "share": round(counting + write_ms / 1000 / WRITE_SECONDS, 5),
            }
        )
    )


if __name__ == "__main__":
    main()
