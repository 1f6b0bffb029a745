"""The short form of `python -m benchmarks.generation_throughput`: one pair, one model."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.generation_throughput import measure as measure_model
from benchmarks.host.child import Notes
from benchmarks.host.device import needs
from benchmarks.host.steps import Task
from benchmarks.throughput.machine import binding, roomy_ray
from benchmarks.throughput.ratios import RATIOS, Measured, figures_of
from benchmarks.throughput.workload import rates

TINY_PROBLEMS = 32
PEER_SECONDS = 75.0
"""Fewest seconds for ray.data.llm's two starts and its passes; with fewer left it is not begun."""


def measure(task: Task, notes: Notes) -> None:
    """Notes rates and ratios: without ray.data.llm first, then with it if it can be imported."""
    needs("vllm")
    options = argparse.Namespace(
        pairs=1, problems=TINY_PROBLEMS if task.is_tiny else None, against=["vllm"]
    )
    if not has_ray_data_llm():
        notes.say("shortened", "without ray.data.llm, which is not installed")
    else:
        options.against.append("ray_data_llm")

    def note(measured: Measured) -> None:
        notes.add(**_figures(measured))
        peers = "ray_data_llm" in options.against and "ray_data_llm" not in measured.passes
        # Its engines start as often as those of all others before it, and it is slower to begin.
        if peers and notes.seconds_left < max(PEER_SECONDS, notes.seconds_spent):
            options.against.remove("ray_data_llm")
            notes.say("shortened", "without ray.data.llm, for lack of time")

    bound = binding(None)
    with roomy_ray():
        measured = measure_model(task.models[0], Path(task.folder), options, note)
    measured.settings |= bound
    notes.add(document=figures_of(measured))


def has_ray_data_llm() -> bool:
    """Whether `ray.data.llm` and all that it stands on can be imported."""
    try:
        if importlib.util.find_spec("ray.data.llm") is None:
            return False
        import ray.data.llm  # noqa: F401
    except ImportError as error:
        print(f"ray.data.llm cannot be imported: {error}", file=sys.stderr)
        return False
    return True


def _figures(measured: Measured) -> dict[str, Any]:
    """Each contender's completion tokens per second, and the ratios that there are."""
    document = figures_of(measured)
    speeds = {
        f"{contender}_tokens_per_second": round(statistics.median(rates(passes)), 1)
        for contender, passes in measured.passes.items()
    }
    ratios = {key: document[key] for key in RATIOS if document[key] is not None}
    return speeds | ratios | {"document": document} | _fraction(document)


def _fraction(document: dict[str, Any]) -> dict[str, Any]:
    roofline = document["roofline"]
    return {"fraction_of_roofline": roofline["whole_path_fraction"]} if roofline else {}
