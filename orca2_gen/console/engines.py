"""Engines at work, for people: what they do now, in a table or in a line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from orca2_gen.run_directory.engine_figures import EngineFigures

RATE_SECONDS = 30.0
"""Seconds over which a rate is measured: several of an engine's own reports."""
SILENT_SECONDS = 20.0
"""Seconds without a report after which an engine counts as dead: one that was killed never says so.
"""


@dataclass(slots=True)
class EngineRates:
    """Tokens a second and the busy share of engines, from what each of them wrote at two times.

    An engine's own seconds count, so that neither clocks nor slow file systems matter.
    """

    _seen: dict[str, tuple[EngineFigures, ...]] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)
    """Start -> time here of its last report."""

    def add(self, figures: Mapping[str, EngineFigures], *, are_old: bool = False) -> None:
        """Takes in what the engines' files hold now.

        Args:
            figures: start -> its figures.
            are_old: whether that says nothing of who lives, since nobody has looked before.
        """
        for start, now in figures.items():
            seen = self._seen.get(start, ())
            if not seen or now.seconds > seen[-1].seconds:
                seen = (*seen, now)
                self._heard[start] = -math.inf if are_old else time.monotonic()
            while len(seen) > 2 and now.seconds - seen[1].seconds >= RATE_SECONDS:
                seen = seen[1:]
            self._seen[start] = seen  # whole at once: another thread reads it

    def living(self, figures: Mapping[str, EngineFigures]) -> list[EngineFigures]:
        """The engines that have not ended and still report."""
        since = time.monotonic() - SILENT_SECONDS
        return [
            each
            for start, each in figures.items()
            if not each.has_ended and self._heard.get(start, since) >= since
        ]

    def tokens_per_second(self, start: str) -> float:
        """The tokens that an engine generated in a second, lately."""
        first, last, seconds = self._span(start)
        return (last.generated_tokens - first.generated_tokens) / seconds if seconds else 0.0

    def busy_share(self, start: str) -> float:
        """The share of the time in which an engine had a request, lately."""
        first, last, seconds = self._span(start)
        busy = last.busy_seconds - first.busy_seconds
        return min(1.0, max(0.0, busy / seconds)) if seconds else 0.0

    def _span(self, start: str) -> tuple[EngineFigures, EngineFigures, float]:
        """Two reports of an engine and the seconds between them, 0 if there is one report."""
        seen = self._seen[start]
        up = [each for each in seen if each.start_seconds is not None]
        first, last = (up[0], up[-1]) if up else (seen[-1], seen[-1])
        return first, last, last.seconds - first.seconds


def engines_line(figures: Mapping[str, EngineFigures], rates: EngineRates) -> str:
    """One line about the engines that live."""
    living = rates.living(figures)
    up = [each for each in living if each.start_seconds is not None]
    loading = [each for each in living if each.start_seconds is None]
    parts = []
    if up:
        speed = sum(rates.tokens_per_second(each.start) for each in up)
        busy = sum(rates.busy_share(each.start) for each in up) / len(up)
        parts.append(
            f"{_engines(len(up))} up, {speed:,.0f} tokens/s, "
            f"{sum(each.num_open for each in up):,} requests open, busy {100 * busy:.0f} %"
        )
    if loading:
        longest = max(each.seconds for each in loading)
        verb = "loads" if len(loading) == 1 else "load"
        parts.append(f"{_engines(len(loading))} {verb} for {longest:.0f} s")
    return "; ".join(parts) or "no engine has its devices yet"


def _engines(number: int) -> str:
    return f"{number} engine" + "s" * (number != 1)


def engine_table(
    figures: Mapping[str, EngineFigures], rates: EngineRates, most: int | None = None
) -> Table:
    """One row for each engine that lives, `most` of them if it is given."""
    table = Table(title_justify="left")
    for name in ("engine", "node", "state"):
        table.add_column(name, no_wrap=name != "node")
    for name in ("running", "waiting", "tokens/s", "KV cache", "prefix hits", "busy"):
        # Headers may wrap where they have two words; no word and no cell does.
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    living = rates.living(figures)
    if most is not None and len(living) > most:
        table.caption = f"and {len(living) - most} more"
    for each in living[:most]:
        engine = Text(f"{each.model} {each.replica}")
        if each.start_seconds is None:
            table.add_row(engine, Text(each.node), f"loads, {each.seconds:.0f} s", *[""] * 6)
            continue
        prompt = sum(answers.prompt_tokens for answers in each.answers.values())
        cached = sum(answers.cached_tokens for answers in each.answers.values())
        table.add_row(
            engine,
            Text(each.node),
            "up",
            str(each.num_running),
            str(max(0, each.num_open - each.num_running)),
            f"{rates.tokens_per_second(each.start):,.0f}",
            f"{100 * each.cache_usage:.0f} %",
            f"{100 * cached / prompt:.0f} %" if prompt else "",
            f"{100 * rates.busy_share(each.start):.0f} %",
        )
    return table
