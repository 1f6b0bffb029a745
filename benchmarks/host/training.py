"""Steps of train/'s own loop on packed rows of made-up examples, on one device.

FLOPs per token are 6 Q + 12 L H Dh T: Q matmul parameters with the LM head, L layers, H heads, Dh
head size, T tokens of a row, attention counted in full (PaLM, arXiv 2204.02311, appendix B). An
example attends only to itself, so a row needs less than that; the figure compares with others'.
"""

from __future__ import annotations

import random
import resource
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.host.child import Notes
from benchmarks.host.device import device_ceiling
from benchmarks.host.steps import Task
from benchmarks.throughput.models import model_directory
from benchmarks.throughput.roofline import Geometry, read_geometry
from train.batches import Encoded, PackedExamples, encoded, packed_batches
from train.fit import StepMetrics, fit
from train.loss import LabelledLoss
from train.model import load_sharded
from train.optimizers import Schedule, build_optimizers
from train.packing import pack

WARM_UP_STEPS = 3
MOST_STEPS = 20
SHARE_OF_TIME = 0.7
NOMINAL_FLOPS = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}
"""A GPU's name -> dense bfloat16 FLOPs per second by NVIDIA's data sheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of a step."""

    seq_len: int
    rows_per_step: int
    rows_per_forward: int
    example_tokens: tuple[int, int]
    """Least and most tokens of an example."""


FULL = Rows(seq_len=2048, rows_per_step=16, rows_per_forward=4, example_tokens=(200, 800))
TINY = Rows(seq_len=256, rows_per_step=8, rows_per_forward=8, example_tokens=(40, 120))


def measure(task: Task, notes: Notes) -> None:
    """Notes the device's rate, then speed and memory of as many steps as the seconds allow."""
    ceiling = device_ceiling(task)
    model = model_directory(task.models[0], Path(task.folder))
    rows = TINY if task.is_tiny else FULL
    # As in the microworld's config: many CPUs only emulate bfloat16.
    loss = load_sharded(model, dtype=torch.bfloat16 if task.on_gpu else torch.float32).loss
    notes.add(
        parameters=sum(each.numel() for each in loss.parameters()),
        tokens_per_row=rows.seq_len,
        rows_per_step=rows.rows_per_step,
        matmul_flops_per_second=ceiling.flops_per_second,
    )
    optimizers = build_optimizers(loss.model, optimizer="adamw", learning_rate=1e-5)
    warm = _steps(loss, optimizers, rows, WARM_UP_STEPS)
    notes.add(tokens_per_second=round(warm[-1].tokens_per_second, 1))  # until there are more steps
    each_seconds = rows.seq_len * rows.rows_per_step * warm[-1].fill / warm[-1].tokens_per_second
    affordable = int(SHARE_OF_TIME * notes.seconds_left / each_seconds)
    number = max(1, min(MOST_STEPS, affordable))
    if number < MOST_STEPS:
        notes.say("shortened", f"{number} of {MOST_STEPS} steps, for lack of time")
    measured = _steps(loss, optimizers, rows, number)
    matmul = ceiling.flops_per_second
    notes.add(**_figures(measured, rows, read_geometry(model), matmul, on_gpu=task.on_gpu))


def flops_per_token(geometry: Geometry, seq_len: int) -> float:
    """FLOPs of a trained token, forward and backward, in a row of this length."""
    attention = geometry.layers * geometry.heads * geometry.head_dim * seq_len
    return 6.0 * geometry.matmul_parameters + 12.0 * attention


def _steps(
    loss: LabelledLoss, optimizers: list[torch.optim.Optimizer], rows: Rows, number: int
) -> list[StepMetrics]:
    """The metrics of so many steps."""
    examples = list(_examples(rows, loss.model.config.vocab_size))
    packing = pack([len(each.input_ids) for each in examples], seq_len=rows.seq_len, seed=0)
    metrics: list[StepMetrics] = []
    fit(
        loss,
        packed_batches(
            [PackedExamples(examples=examples, packing=packing)],
            rows_per_step=rows.rows_per_step,
            rows_per_forward=rows.rows_per_forward,
            seed=0,
        ),
        optimizers,
        Schedule(learning_rate=1e-5, num_steps=number),
        log=metrics.append,
    )
    return metrics


def _examples(rows: Rows, vocab_size: int) -> Iterator[Encoded]:
    """Examples for about two steps, of lengths drawn evenly: a third prompt, the rest answer."""
    rng = random.Random(0)
    left = 2 * rows.rows_per_step * rows.seq_len
    while left > 0:
        length = rng.randint(*rows.example_tokens)
        yield encoded(rng.choices(range(10, vocab_size), k=length), length // 3)
        left -= length


def _figures(
    metrics: list[StepMetrics], rows: Rows, geometry: Geometry, matmul: float, *, on_gpu: bool
) -> dict[str, object]:
    """Speed of the median step. Padding is computed too, so FLOPs count every slot."""
    tokens = statistics.median(each.tokens_per_second for each in metrics)
    slots = statistics.median(each.tokens_per_second / each.fill for each in metrics)
    flops = slots * flops_per_token(geometry, rows.seq_len)
    figures: dict[str, object] = {
        "steps": len(metrics),
        "tokens_per_second": round(tokens, 1),
        "fill": round(metrics[-1].fill, 3),
        "flops_per_second": flops,
        "mfu_of_measured_matmul": round(flops / matmul, 3),
        "last_loss": None if metrics[-1].loss is None else round(metrics[-1].loss, 3),
    }
    if not on_gpu:
        # ru_maxrss counts KiB (getrusage(2)).
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return figures | {"peak_memory_bytes": peak}
    nominal = NOMINAL_FLOPS.get(torch.cuda.get_device_name())
    return figures | {
        "mfu": None if nominal is None else round(flops / nominal, 3),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
    }
