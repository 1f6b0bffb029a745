"""A run's figures for programs: lines in RUN/metrics.jsonl, and Prometheus on the loopback address.

The lines of a stage stand beside those of training steps (train/progress.py), which have `step` in
place of `stage`. Names follow OpenTelemetry's for generative AI where it has one
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics): `gen_ai_client_token_usage` with
`gen_ai_token_type` and `gen_ai_request_model`, here as sums over answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orca2_gen.console.stage import StageProgress
from orca2_gen.console.strategies import outcomes_by_strategy
from orca2_gen.run_directory.appended_lines import append_line

METRICS_FILE = "metrics.jsonl"
METRICS_SECONDS = 10.0
"""Seconds between two lines of a stage."""
_LOOPBACK = "127.0.0.1"


class MetricsFile:
    """RUN/metrics.jsonl, to which the stages of a driver append; one that fails costs no row."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE

    def write(self, progress: StageProgress) -> None:
        """Appends a line about a stage now."""
        line = json.dumps({"time": round(time.time(), 3), **stage_metrics(progress)})
        with suppress(OSError):
            append_line(self._path, line)


def stage_metrics(progress: StageProgress) -> dict[str, Any]:
    """What is known of a stage now; None where nothing is."""
    living = progress.rates.living(progress.engines)
    up = [each for each in living if each.start_seconds is not None]
    every = progress.engines.values()
    answers = [answers for each in every for answers in each.answers.values()]
    prompt_tokens = sum(each.prompt_tokens for each in answers)
    cached_tokens = sum(each.cached_tokens for each in answers)
    left = progress.seconds_left
    return {
        "stage": progress.stage,
        "seconds": round(time.monotonic() - progress.started, 1),
        "units": progress.units,
        "rows_accepted": progress.accepted,
        "rows_rejected": progress.rejected,
        "rows_by_strategy": {
            f"{stage}/{name}": counts
            for (stage, name), counts in outcomes_by_strategy(every).items()
        },
        "device_seconds": round(sum(each.device_seconds for each in every), 1),
        "engines_up": len(up),
        "engines_loading": len(living) - len(up),
        "requests_running": sum(each.num_running for each in up),
        "requests_open": sum(each.num_open for each in up),
        "tokens_per_second": round(progress.tokens_per_second, 1),
        "busy_share": round(progress.busy_share, 4),
        "kv_cache_usage": round(sum(each.cache_usage for each in up) / max(1, len(up)), 4),
        "prefix_hit_share": round(cached_tokens / prompt_tokens, 4) if prompt_tokens else None,
        "preemptions": sum(each.preemptions for each in every),
        "seconds_left": round(left.seconds) if left else None,
        "seconds_left_low": round(left.low) if left else None,
        "seconds_left_high": round(left.high) if left else None,
        "seconds_to_come": round(progress.then.value) if progress.then else None,
    }


class PrometheusPage(Collector):
    """What Prometheus reads of the stage in progress; between stages, the last one's counters."""

    def __init__(self, port: int) -> None:
        """Serves the page.

        Args:
            port: port on the loopback address.

        Raises:
            ValueError: the port cannot be had.
        """
        self._progress: StageProgress | None = None
        self._is_going_on = False
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, _LOOPBACK, registry)
        except OSError as error:
            raise ValueError(
                f"--metrics-port {port}: {error.strerror}; give a port that is free"
            ) from None

    def begin(self, progress: StageProgress) -> None:
        """Shows a stage from now on."""
        self._progress, self._is_going_on = progress, True

    def end(self) -> None:
        """Shows no more of the stage than what its engines have done."""
        self._is_going_on = False

    def close(self) -> None:
        """Ends the page."""
        self._server.shutdown()
        self._server.server_close()

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on the stage."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        if (progress := self._progress) is not None:
            if self._is_going_on:
                yield from _gauges(stage_metrics(progress))
            yield from _counters(progress)


_HELP = {
    "units": "Units of the stage that this driver has committed",
    "rows_accepted": "Rows of the stage that this driver has committed",
    "rows_rejected": "Rows that it has committed as rejected, each with its reason",
    "engines_up": "Engines that have generated a token",
    "engines_loading": "Engines that have their devices and load",
    "requests_running": "Requests in the engines' batches",
    "requests_open": "Requests that are not answered",
    "tokens_per_second": "Generated tokens per second, lately",
    "busy_share": "Share of the time in which engines had a request, lately",
    "kv_cache_usage": "Share of the KV cache in use",
    "prefix_hit_share": "Share of the prompt tokens that came from the prefix cache",
    "preemptions": "Requests that engines of the stage have preempted",
    "seconds": "Seconds since the stage began",
    "seconds_left": "Estimated seconds until the stage ends",
    "seconds_left_low": "The same, at least in nineteen of twenty cases",
    "seconds_left_high": "The same, at most in nineteen of twenty cases",
}


def _gauges(metrics: dict[str, Any]) -> Iterator[Metric]:
    for name, text in _HELP.items():
        if (value := metrics[name]) is not None:
            gauge = GaugeMetricFamily(f"orca2_{name}", text, labels=["stage"])
            gauge.add_metric([metrics["stage"]], value)
            yield gauge


def _counters(progress: StageProgress) -> Iterator[Metric]:
    by_token = CounterMetricFamily(
        "gen_ai_client_token_usage",
        "Tokens of finished requests",
        labels=["stage", "strategy", "gen_ai_request_model", "gen_ai_token_type"],
    )
    requests = CounterMetricFamily(
        "orca2_requests", "Finished requests", labels=["stage", "strategy", "gen_ai_request_model"]
    )
    truncated = CounterMetricFamily(
        "orca2_truncated_requests",
        "Finished requests that ended at their limit of tokens",
        labels=["stage", "strategy", "gen_ai_request_model"],
    )
    totals: dict[tuple[str, str, str], list[int]] = {}
    for engine in progress.engines.values():
        for strategy, each in engine.answers.items():
            sums = totals.setdefault((engine.stage, strategy, engine.model), [0, 0, 0, 0])
            found = (each.prompt_tokens, each.completion_tokens, each.requests, each.truncated)
            sums[:] = [before + now for before, now in zip(sums, found, strict=True)]
    for labels, (prompt, made, num, num_truncated) in totals.items():
        by_token.add_metric([*labels, "input"], prompt)
        by_token.add_metric([*labels, "output"], made)
        requests.add_metric(labels, num)
        truncated.add_metric(labels, num_truncated)
    yield from (by_token, requests, truncated)
