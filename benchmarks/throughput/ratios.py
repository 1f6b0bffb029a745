"""The measurements of one model -> the tables for people and the document for machines."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.throughput.roofline import Limit
from benchmarks.throughput.workload import Pass, Spread, rates, spread, total

RATIOS = {
    "actor_over_raw": ("actor_loop", "raw"),
    "path_over_raw": ("whole_path", "raw"),
    "path_over_ray_data_llm": ("whole_path_beside_peers", "ray_data_llm"),
    "path_over_ray_data_llm_defaults": ("whole_path_beside_peers", "ray_data_llm_defaults"),
    "path_over_blocking": ("actor_loop_geometric", "blocking_geometric"),
}
"""Key of the document -> contenders; the ratio is the first's completion tokens per second over the
second's. The path's requests all have one length limit, so its loop stands for it against blocking
batches, whose point is that lengths differ."""


@dataclass(kw_only=True, slots=True)
class Measured:
    """One model's passes, without warm-up."""

    settings: dict[str, Any]
    passes: dict[str, list[Pass]] = field(default_factory=dict)
    """Contender -> its passes, in the order of the pairs."""
    ideal_cached_tokens: dict[str, list[int]] = field(default_factory=dict)
    """Contender -> ideal cached tokens of its passes, for the whole path's engine."""
    preemptions: dict[str, int] = field(default_factory=dict)
    cold_start_seconds: dict[str, float] = field(default_factory=dict)
    limit: Limit | None = None
    """Limit of the path's job, on a GPU only."""

    def add(self, contender: str, each: Pass) -> None:
        self.passes.setdefault(contender, []).append(each)


def ratio_of(measured: Measured, key: str) -> Spread | None:
    """The Spread of one of RATIOS; None if a contender did not run."""
    ours, theirs = RATIOS[key]
    if ours not in measured.passes or theirs not in measured.passes:
        return None
    return spread(rates(measured.passes[ours]), rates(measured.passes[theirs]))


def prefix_over_ideal(measured: Measured) -> Spread | None:
    """Cached tokens of the whole path over the ideal, by pass; None if nothing can be shared."""
    found = [
        float(each.cached_tokens or 0)
        for contender in measured.ideal_cached_tokens
        for each in measured.passes[contender]
    ]
    ideal = [float(n) for passes in measured.ideal_cached_tokens.values() for n in passes]
    return spread(found, ideal) if ideal and all(ideal) else None


def figures_of(measured: Measured) -> dict[str, Any]:
    """One model's part of the document: the medians and the figures that they come from."""
    spreads = {key: ratio_of(measured, key) for key in RATIOS}
    spreads["prefix_over_ideal"] = prefix_over_ideal(measured)
    medians = {key: _rounded(each.median) if each else None for key, each in spreads.items()}
    return medians | {
        "min_max": {
            key: [_rounded(each.low), _rounded(each.high)] if each else None
            for key, each in spreads.items()
        },
        "contenders": {
            contender: {
                "completion_tokens_per_second": [round(rate, 1) for rate in rates(passes)],
                "requests": total(passes, "requests"),
                "prompt_tokens": total(passes, "prompt_tokens"),
                "completion_tokens": total(passes, "completion_tokens"),
                "cached_tokens": total(passes, "cached_tokens"),
                "ideal_cached_tokens": _sum(measured.ideal_cached_tokens.get(contender)),
                "preemptions": measured.preemptions.get(contender),
                "cold_start_seconds": measured.cold_start_seconds.get(contender),
            }
            for contender, passes in measured.passes.items()
        },
        "roofline": _roofline(measured) or None,
        "settings": measured.settings,
    }


def contender_table(model: str, measured: Measured) -> Table:
    """Speed, tokens, cache, preemptions and cold start of every contender."""
    table = Table(title=f"{model}: {_line(measured.settings)}", title_justify="left")
    table.add_column("contender", no_wrap=True)
    columns = ("tok/s", "min", "max", "requests", "prompt", "generated", "cached", "ideal")
    for name in (*columns, "uncached", "preempted", "cold start s"):
        table.add_column(name, justify="right")
    for contender, passes in measured.passes.items():
        speeds = rates(passes)
        cached = total(passes, "cached_tokens")
        prompt_tokens = total(passes, "prompt_tokens")
        table.add_row(
            contender,
            *(f"{rate:.0f}" for rate in (statistics.median(speeds), min(speeds), max(speeds))),
            *(str(total(passes, name)) for name in ("requests", "prompt_tokens")),
            str(total(passes, "completion_tokens")),
            _text(cached),
            _text(_sum(measured.ideal_cached_tokens.get(contender))),
            _text(None if cached is None else prompt_tokens - cached),
            _text(measured.preemptions.get(contender)),
            _text(measured.cold_start_seconds.get(contender)),
        )
    if measured.limit is not None:
        table.caption = f"roofline: {_line(_roofline(measured))}"
    return table


def ratio_table(measured: dict[str, Measured]) -> Table:
    """Median, least and greatest ratio, by model."""
    table = Table("ratio", title="Ratios of pairs: median (min - max)", title_justify="left")
    for model in measured:
        table.add_column(model, justify="right")
    for key in (*RATIOS, "prefix_over_ideal"):
        found = [
            prefix_over_ideal(each) if key == "prefix_over_ideal" else ratio_of(each, key)
            for each in measured.values()
        ]
        table.add_row(
            key, *(f"{s.median:.3f} ({s.low:.3f} - {s.high:.3f})" if s else "-" for s in found)
        )
    return table


def _roofline(measured: Measured) -> dict[str, Any]:
    """The limits of the path's job and the fractions of the overlap limit; empty on a CPU."""
    if measured.limit is None:
        return {}
    return asdict(measured.limit) | {
        f"{contender}_fraction": _rounded(
            statistics.median(rates(measured.passes[contender])) / measured.limit.overlap
        )
        for contender in ("raw", "whole_path")
    }


def _line(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _sum(values: list[int] | None) -> int | None:
    return None if values is None else sum(values)


def _rounded(value: float) -> float:
    return round(value, 3)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
