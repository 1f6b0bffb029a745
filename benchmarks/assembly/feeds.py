"""The same requests on a bare engine, fed as ray.data.llm feeds its engine and as we feed ours.

Both are asked of one engine, which has no other work, and whose cache is emptied before each. What
differs is packing alone: a batch of ray.data.llm keeps its place until its last row is done, while
ours gives each request's place to the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import ray

from benchmarks.assembly.ground import Asked, Ground
from benchmarks.assembly.ours import END_SECONDS
from benchmarks.throughput.machine import engine_processes
from benchmarks.throughput.ray_data_llm import equal_settings
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.engine import WARM_UP, Engine, Request, VLLMEngine, set_engine_environment
from orca2_gen.records import Role
from ray_jobs.cluster import is_cpu_build


@dataclass(frozen=True, kw_only=True, slots=True)
class Fed:
    """Seconds of a bare engine for the same requests."""

    in_batches: float
    refilled: float

    def __add__(self, other: Fed) -> Fed:
        return Fed(
            in_batches=self.in_batches + other.in_batches, refilled=self.refilled + other.refilled
        )


def feed(ground: Ground, role: Role, asked: Sequence[Asked], *, batches_first: bool) -> Fed:
    """The seconds for these prompts of one model, fed in both ways, one after the other."""
    config, chat = ground.engine(role), ground.chat(role)
    requests = [each.request(chat) for each in asked]
    gpus = 0 if is_cpu_build() else config.ranks
    host = ray.remote(num_cpus=0, num_gpus=gpus, max_concurrency=2)(BareEngine).remote(config)
    try:
        seconds = {
            is_batched: ray.get(host.seconds.remote(requests, is_batched))
            for is_batched in ((True, False) if batches_first else (False, True))
        }
        processes = engine_processes()
        ray.get(host.close.remote())
    finally:
        ray.kill(host)
    psutil.wait_procs(processes, timeout=END_SECONDS)
    return Fed(in_batches=seconds[True], refilled=seconds[False])


class BareEngine:
    """An actor that holds an engine and nothing else."""

    def __init__(self, config: VLLMEngineConfig) -> None:
        set_engine_environment(config)
        self._engine = VLLMEngine(config, "mp" if config.ranks > 1 else None)
        self._config = config

    async def seconds(self, requests: list[Request], is_batched: bool) -> float:
        """The seconds from the first request to the last completion."""
        await self._engine.generate(_warm_up())
        await self._engine._llm.reset_prefix_cache()
        further = equal_settings(self._config).further
        started = time.perf_counter()
        if is_batched:
            size, open_batches = further["batch_size"], further["max_concurrent_batches"]
            await in_batches(self._engine, requests, size, open_batches)
        else:
            await refilled(self._engine, requests, 2 * self._config.sequences)
        return time.perf_counter() - started

    async def close(self) -> None:
        self._engine.close()


async def refilled(engine: Engine, requests: Iterable[Request], open_requests: int) -> None:
    """Keeps so many requests open until none is left."""
    waiting = iter(requests)

    async def take_next() -> None:
        for request in waiting:
            await engine.generate(request)

    await asyncio.gather(*(take_next() for _ in range(open_requests)))


async def in_batches(
    engine: Engine, requests: Sequence[Request], size: int, open_batches: int
) -> None:
    """Keeps so many batches open until none is left; a batch is open until all of it is done."""
    batches = iter([requests[first : first + size] for first in range(0, len(requests), size)])

    async def take_next() -> None:
        for batch in batches:
            await asyncio.gather(*map(engine.generate, batch))

    await asyncio.gather(*(take_next() for _ in range(open_batches)))


def _warm_up() -> Request:
    return Request(
        problem_id=WARM_UP,
        role="student",
        strategy="",
        call=0,
        attempt=0,
        prompt_token_ids=(1,),
        max_tokens=1,
    )
