"""The steps of a first look at a host, and how its seconds are shared out among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Ended = Literal["done", "cut off", "failed", "left out"]
MODELS = {"small": "llama-1b", "large": "llama-8b"}
TINY_MODELS = {"small": "tiny", "large": "larger"}
"""What stands for the two models where everything is tiny."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that is measured, in a process of its own."""

    name: str
    what: str
    """A line for people."""
    module: str
    """A file of this folder, whose function `measure` runs."""
    seconds: float
    """The most that it may take."""
    least_seconds: float
    """With fewer seconds left it is not begun: it would be cut off before its first figure."""
    models: tuple[str, ...] = ()
    """`small` or `large`; of two, the first is the student."""
    devices: int = 1
    """GPUs, or cores where there is no GPU, that it takes."""


PREFLIGHT = Step(
    name="preflight",
    what="versions, GPUs, compilers, room",
    module="preflight",
    seconds=90,
    least_seconds=5,
    devices=0,
)
MAKING = Step(
    name="models",
    what="random weights of the models that the steps need",
    module="models",
    seconds=150,
    least_seconds=10,
    devices=0,
)
# In the order of their worth: what has no seconds left stands at the end.
STEPS = (
    Step(
        name="start",
        what="seconds until an engine has made a token: cold, then warm",
        module="start",
        seconds=240,
        least_seconds=40,
        models=("small",),
    ),
    Step(
        name="requests-large",
        what="512 requests to a warm engine, and the roofline",
        module="requests",
        seconds=180,
        least_seconds=45,
        models=("large",),
    ),
    Step(
        name="training",
        what="a training step: speed, FLOPs, memory",
        module="training",
        seconds=120,
        least_seconds=25,
        models=("small",),
    ),
    Step(
        name="memory",
        what="what is left of an engine that ends, and of one that is killed",
        module="memory",
        seconds=180,
        least_seconds=60,
        models=("small",),
    ),
    Step(
        name="throughput-small",
        what="raw, actor, path and ray.data.llm, alternating",
        module="throughput",
        seconds=300,
        least_seconds=90,
        models=("small",),
    ),
    Step(
        name="swap",
        what="from student to teacher, phased and overlapped",
        module="swap",
        seconds=300,
        least_seconds=75,
        models=("small", "large"),
    ),
    Step(
        name="requests-small",
        what="512 requests to a warm engine, and the roofline",
        module="requests",
        seconds=120,
        least_seconds=40,
        models=("small",),
    ),
    Step(
        name="two-ranks",
        what="512 requests to one engine on two devices",
        module="requests",
        seconds=180,
        least_seconds=50,
        models=("large",),
        devices=2,
    ),
    Step(
        name="throughput-large",
        what="raw, actor, path and ray.data.llm, alternating",
        module="throughput",
        seconds=420,
        least_seconds=150,
        models=("large",),
    ),
)
NAMES = tuple(step.name for step in STEPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What the process of a step is told."""

    step: str
    module: str
    models: Sequence[str]
    """Names in benchmarks/throughput/models.py, in the step's order."""
    folder: str
    """Directory of the models, and for whatever the step writes."""
    figures_file: str
    seconds: float
    """Seconds after which it is cut off."""
    is_tiny: bool
    on_gpu: bool
    devices: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a step."""

    step: str
    ended: Ended
    seconds: float = 0.0
    reason: str = ""
    """Why it is not done, or in which way it was shortened."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The figures that it noted until its end."""


def chosen(only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Step, ...]:
    """The steps that are asked for, after those that they need."""
    asked = [s for s in STEPS if (not only or s.name in only) and s.name not in skip]
    models = tuple(name for name in MODELS if any(name in step.models for step in asked))
    making = [replace(MAKING, models=models)] if models else []
    return (PREFLIGHT, *making, *asked)


def reason_against(
    step: Step, before: Mapping[str, Outcome], seconds_left: float, *, is_tiny: bool
) -> str:
    """Why a step cannot be begun, after what became of those before it; empty if it can.

    Args:
        step: the next step.
        before: outcomes by name.
        seconds_left: of the whole.
        is_tiny: whether everything is small enough for a CPU.
    """
    if step is not PREFLIGHT:
        seen = before[PREFLIGHT.name]
        if seen.ended != "done":
            return f"preflight: {seen.reason}"
        num_gpus, num_cores = len(seen.figures["gpus"]), int(seen.figures["cores"])
        if not (num_gpus or is_tiny):
            return "no GPU that engines can use; --tiny runs everything small, on the CPU"
        there = num_gpus if seen.figures["on_gpu"] else num_cores
        if step.devices > there:
            kind = "GPUs" if seen.figures["on_gpu"] else "cores"
            return f"it takes {step.devices} {kind}, and there are {there}"
    if step.models and step.name != MAKING.name and before[MAKING.name].ended != "done":
        return f"there are no models: {before[MAKING.name].reason}"
    if seconds_left < step.least_seconds:
        return (
            f"it takes at least {step.least_seconds:.0f} s and {max(0.0, seconds_left):.0f} are "
            f"left; run it alone: --only {step.name}"
        )
    return ""
