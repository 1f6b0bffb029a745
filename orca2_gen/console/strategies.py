"""What becomes of the rows of each strategy while a stage runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from orca2_gen.run_directory.engine_figures import EngineFigures

OUTCOMES = (
    *("correct", "incorrect", "truncated", "unparsed", "ungraded", "forced"),
    *("accepted", "rejected", "refused"),
)
"""What may become of a row (EngineFigures.outcomes), in the order of the columns."""


def strategy_table(figures: Iterable[EngineFigures]) -> Table:
    """One row for each strategy: answered rows, what became of them, tokens of one; columns without
    a single row are left out.
    """
    engines = list(figures)
    outcomes, rows, tokens = outcomes_by_strategy(engines), Counter[str](), Counter[str]()
    for each in engines:
        rows.update(each.rows)
        for name, answers in each.answers.items():
            tokens[name] += answers.completion_tokens
    seen = [name for name in OUTCOMES if any(name in counts for counts in outcomes.values())]
    table = Table(title_justify="left")
    table.add_column("strategy", no_wrap=True)
    for name in ("rows", *seen, "tokens each"):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for name, num in rows.items():
        cells = [f"{num:,}", *(f"{outcomes.get(name, {}).get(each, 0):,}" for each in seen)]
        table.add_row(Text(name.replace("_", " ")), *cells, f"{tokens[name] / max(1, num):.0f}")
    return table


def outcomes_by_strategy(figures: Iterable[EngineFigures]) -> Mapping[str, Mapping[str, int]]:
    """Strategy -> what became of its rows -> their number, over all engines."""
    found: dict[str, Counter[str]] = {}
    for each in figures:
        for name, counts in each.outcomes.items():
            found.setdefault(name, Counter()).update(counts)
    return found


def yield_text(num_rows: int, figures: Iterable[EngineFigures]) -> str:
    """Accepted rows for an engine-second and the reverse, in words; empty before the first."""
    engines = list(figures)
    seconds = sum(each.device_seconds for each in engines)
    if not num_rows or not seconds:
        return ""
    on = "GPU" if any(each.num_gpus for each in engines) else "engine"
    each = f"{seconds / num_rows:.3g} {on}-seconds each"
    return f"{num_rows / seconds:.3g} rows per {on}-second ({each})"
