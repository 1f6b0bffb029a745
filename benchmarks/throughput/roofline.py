"""Upper limits of a GPU: for a job and for one decode step.

    KV bytes/token  2 L Hkv Dh k
    decode step     t = max((Q w + B c KV) / BW, (2 Q B + 4 L H Dh c B) / peak)
    job             T >= max(FLOPs / peak, bytes / BW)

L layers, H heads, Hkv KV heads, Dh head size, Q matmul parameters with the LM head, w and k bytes
of a weight and of a KV element, B live sequences, c mean live context.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.throughput.workload import Pass, total

CALIBRATION_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The parts of a model that decide its cost."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    matmul_parameters: int
    element_bytes: int = 2

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * self.element_bytes

    @property
    def weight_bytes(self) -> int:
        return self.matmul_parameters * self.element_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """The highest rates of a device."""

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Requests of one shape, as means."""

    requests: int
    prompt_tokens: float
    uncached_tokens: float
    completion_tokens: float
    live_sequences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Completion tokens per second that a job cannot exceed."""

    overlap: float
    """Limit with compute and memory both always busy."""
    serial: float
    """Limit with prefill, then decode."""
    binds: str
    """`compute` or `memory`, whichever sets the overlap limit."""


def job_of(passes: Sequence[Pass], max_num_seqs: int) -> Job:
    """The Job of one of these passes, on average; they must report their cached tokens."""
    requests, prompt_tokens = total(passes, "requests"), total(passes, "prompt_tokens")
    return Job(
        requests=passes[0].requests,
        prompt_tokens=prompt_tokens / requests,
        uncached_tokens=(prompt_tokens - total(passes, "cached_tokens")) / requests,
        completion_tokens=total(passes, "completion_tokens") / requests,
        live_sequences=min(max_num_seqs, passes[0].requests),
    )


def read_geometry(model: Path, element_bytes: int = 2) -> Geometry:
    """The Geometry of a Llama's config.json; two bytes are bfloat16's."""
    config = json.loads((model / "config.json").read_text())
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    per_layer = attention + 3 * hidden * config["intermediate_size"]
    return Geometry(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        matmul_parameters=layers * per_layer + hidden * config["vocab_size"],
        element_bytes=element_bytes,
    )


def decode_limit(geometry: Geometry, ceiling: Ceiling, live: int, context: float) -> float:
    """Completion tokens per second while `live` sequences of this mean context decode."""
    memory = geometry.weight_bytes + live * context * geometry.kv_bytes_per_token
    attention = 4 * geometry.layers * geometry.heads * geometry.head_dim * context
    compute = live * (2 * geometry.matmul_parameters + attention)
    return live / max(memory / ceiling.bytes_per_second, compute / ceiling.flops_per_second)


def job_limit(geometry: Geometry, ceiling: Ceiling, job: Job) -> Limit:
    """The limits of a job."""
    isl, osl = job.prompt_tokens, job.completion_tokens
    attention = 4 * geometry.layers * geometry.heads * geometry.head_dim
    linear = 2 * geometry.matmul_parameters
    context = isl + osl / 2
    compute = linear * (job.uncached_tokens + osl) + attention * (isl**2 / 2 + osl * context)
    steps = max(osl, job.requests * osl / job.live_sequences)
    memory = geometry.weight_bytes * steps
    memory += job.requests * osl * context * geometry.kv_bytes_per_token
    compute_seconds = job.requests * compute / ceiling.flops_per_second
    memory_seconds = memory / ceiling.bytes_per_second
    prefill = job.requests * (linear * job.uncached_tokens + attention * isl**2 / 2)
    tokens = job.requests * osl
    decode_seconds = tokens / decode_limit(geometry, ceiling, job.live_sequences, context)
    return Limit(
        overlap=tokens / max(compute_seconds, memory_seconds),
        serial=tokens / (prefill / ceiling.flops_per_second + decode_seconds),
        binds="compute" if compute_seconds > memory_seconds else "memory",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """The work that shows a device's rates: large enough that its caches hold none of it."""

    dtype: str
    matmul_rows: int
    copy_bytes: int


PROBES = {
    "cuda": Probe(dtype="bfloat16", matmul_rows=8192, copy_bytes=4 << 30),
    "cpu": Probe(dtype="float32", matmul_rows=1024, copy_bytes=256 << 20),
}


def measured_ceiling(device: str = "cuda", seconds: float = CALIBRATION_SECONDS) -> Ceiling:
    """The rates of this process's device in some seconds of matmuls and as many of copies."""
    import torch

    probe = PROBES[device]
    shape, dtype = (probe.matmul_rows, probe.matmul_rows), getattr(torch, probe.dtype)
    left = torch.randn(shape, device=device, dtype=dtype)
    source = torch.empty(probe.copy_bytes, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def per_second(work: float, step: Callable[[], object]) -> float:
        step()
        wait()
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            for _ in range(10):
                step()
            wait()
            count += 10
        return count * work / (time.perf_counter() - started)

    return Ceiling(
        flops_per_second=per_second(2.0 * probe.matmul_rows**3, lambda: left @ left),
        bytes_per_second=per_second(2.0 * probe.copy_bytes, lambda: target.copy_(source)),
    )
