"""512 requests of one shape to a warm engine, and what share of the roofline they reach.

The shape is that of rationales: 600 tokens in, 100 of them shared, 400 out.
"""

from __future__ import annotations

import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.host.child import Notes
from benchmarks.host.device import device_ceiling, needs, warm_engine
from benchmarks.host.steps import Task
from benchmarks.throughput.models import SIZES, model_directory
from benchmarks.throughput.raw_engine import RawEngine
from benchmarks.throughput.roofline import Ceiling, job_limit, job_of, read_geometry
from benchmarks.throughput.workload import Pass, Prompt

REQUESTS = 512
SHARE_OF_TIME = 0.6
"""Share of the seconds left that the measured pass is planned for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The requests of a pass, and the engine that takes them."""

    shared_tokens: int
    """Tokens with which every prompt begins."""
    own_tokens: int
    completion_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int


FULL = Shape(
    shared_tokens=100,
    own_tokens=500,
    completion_tokens=400,
    max_num_seqs=512,
    max_num_batched_tokens=16_384,
    max_model_len=1024,
)
TINY = Shape(
    shared_tokens=32,
    own_tokens=64,
    completion_tokens=32,
    max_num_seqs=64,
    max_num_batched_tokens=4096,
    max_model_len=512,
)


def measure(task: Task, notes: Notes) -> None:
    """Notes the ceiling of one device, then the speed of a pass and its share of the limit.

    A smaller pass is discarded before, and says how many requests the seconds are enough for.
    """
    needs("vllm")
    ceiling = device_ceiling(task)
    notes.add(**asdict(ceiling))
    shape = TINY if task.is_tiny else FULL
    engine = RawEngine(
        warm_engine(
            task,
            SIZES[task.models[0]],
            max_num_seqs=shape.max_num_seqs,
            max_num_batched_tokens=shape.max_num_batched_tokens,
            max_model_len=shape.max_model_len,
            tensor_parallel_size=task.devices,
            env=_binding(task),
        )
    )
    notes.add(start_seconds=round(engine.cold_start_seconds, 1), devices=task.devices)
    try:
        few = min(shape.max_num_seqs, REQUESTS) // 4
        warm_up = engine.generate(prompts_of(shape, few, seed=0), ignore_eos=True)
        affordable = int(SHARE_OF_TIME * notes.seconds_left * few / warm_up.seconds)
        number = max(few, min(REQUESTS, affordable))
        if number < REQUESTS:
            notes.say("shortened", f"{number} of {REQUESTS} requests, for lack of time")
        each = engine.generate(prompts_of(shape, number, seed=1), ignore_eos=True)
        notes.add(**_figures(task, shape, ceiling, each))
    finally:
        engine.close()


def prompts_of(shape: Shape, number: int, seed: int) -> list[Prompt]:
    """Prompts of random tokens, which all begin alike, whatever the seed."""
    rng = random.Random(seed)
    ids = range(10, 1000)  # in every vocabulary, and no control token
    shared = tuple(random.Random("shared").choices(ids, k=shape.shared_tokens))
    return [
        Prompt(
            problem_id=f"{seed}-{index}",
            strategy="",
            system="",
            user="",
            token_ids=shared + tuple(rng.choices(ids, k=shape.own_tokens)),
            max_tokens=shape.completion_tokens,
        )
        for index in range(number)
    ]


def _binding(task: Task) -> dict[str, str]:
    """Ranks on a CPU get a core each: vLLM itself cannot bind several on one NUMA node."""
    if task.on_gpu or task.devices == 1:
        return {}
    cores = sorted(os.sched_getaffinity(0))[: task.devices]
    return {"VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, cores))}


def _figures(task: Task, shape: Shape, ceiling: Ceiling, each: Pass) -> dict[str, object]:
    model = model_directory(task.models[0], Path(task.folder))
    geometry = read_geometry(model, element_bytes=2 if task.on_gpu else 4)
    together = task.devices if task.on_gpu else 1  # the ceiling of a CPU is that of all its cores
    several = Ceiling(
        flops_per_second=ceiling.flops_per_second * together,
        bytes_per_second=ceiling.bytes_per_second * together,
    )
    limit = job_limit(geometry, several, job_of([each], shape.max_num_seqs))
    return {
        "requests": each.requests,
        "prompt_tokens": each.prompt_tokens,
        "cached_tokens": each.cached_tokens,
        "completion_tokens": each.completion_tokens,
        "pass_seconds": round(each.seconds, 2),
        "completion_tokens_per_second": round(each.completion_tokens_per_second, 1),
        "limit_tokens_per_second": round(limit.overlap, 1),
        "limit_binds": limit.binds,
        "fraction_of_roofline": round(each.completion_tokens_per_second / limit.overlap, 3),
    }
