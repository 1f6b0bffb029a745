"""An engine's figures as metrics of Ray, which each node serves to a cluster's Prometheus."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from orca2_gen.run_directory.engine_figures import EngineFigures

LABELS = ("stage", "model", "replica")
_GAUGES = {
    "num_running": ("orca2_engine_requests_running", "Requests in the engine's batch"),
    "num_open": ("orca2_engine_requests_open", "Requests that the engine has not answered"),
    "cache_usage": ("orca2_engine_kv_cache_usage", "Share of the engine's KV cache in use"),
    "seconds": ("orca2_engine_seconds", "Seconds since the engine had its devices"),
    "busy_seconds": ("orca2_engine_busy_seconds", "Seconds in which the engine had a request"),
}
_COUNTERS = {
    "generated_tokens": ("orca2_engine_generated_tokens", "Tokens that the engine generated"),
    "preemptions": ("orca2_engine_preemptions", "Requests that the engine preempted"),
}


class RayMetrics:
    """The metrics of one engine, declared when they are first published."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._before = dict.fromkeys(_COUNTERS, 0)

    def publish(self, figures: EngineFigures) -> None:
        """Hands on the figures now."""
        if not self._gauges:
            self._declare(figures)
        for field, gauge in self._gauges.items():
            gauge.set(getattr(figures, field))
        for field, counter in self._counters.items():
            now: int = getattr(figures, field)
            if now > self._before[field]:
                counter.inc(now - self._before[field])
                self._before[field] = now

    def _declare(self, figures: EngineFigures) -> None:
        labels = {name: str(getattr(figures, name)) for name in LABELS}
        for field, (name, text) in _COUNTERS.items():
            self._counters[field] = Counter(name, description=text, tag_keys=LABELS)
            self._counters[field].set_default_tags(labels)
        for field, (name, text) in _GAUGES.items():
            self._gauges[field] = Gauge(name, description=text, tag_keys=LABELS)
            self._gauges[field].set_default_tags(labels)
