"""What becomes of the rows of each strategy while a stage runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from orca2_gen.run_directory.engine_figures import EngineFigures
from orca2_gen.run_directory.units import STAGES

OUTCOMES = (
    *("correct", "truncated", "unparsed", "ungraded", "forced"),
    *("accepted", "rejected", "refused"),
)
"""What is shown of what may become of a row (EngineFigures.outcomes), in the order of columns."""


Key = tuple[str, str]
"""Stage and strategy."""


def strategy_tables(figures: Iterable[EngineFigures]) -> list[Table]:
    """For each stage a table with one row for each strategy: answered rows, what became of them,
    tokens of one. Columns without a single row are left out.
    """
    engines = list(figures)
    # An overlapped run scores and teaches at a time.
    stages = sorted({each.stage for each in engines if each.rows}, key=_place)
    return [
        _table(stage if len(stages) > 1 else "", [e for e in engines if e.stage == stage])
        for stage in stages
    ]


def _table(title: str, engines: list[EngineFigures]) -> Table:
    rows, tokens = Counter[str](), Counter[str]()
    outcomes: dict[str, Counter[str]] = {}
    for each in engines:
        rows.update(each.rows)
        for name, answers in each.answers.items():
            tokens[name] += answers.completion_tokens
        for name, counts in each.outcomes.items():
            outcomes.setdefault(name, Counter()).update(counts)
    seen = [name for name in OUTCOMES if any(name in counts for counts in outcomes.values())]
    # Without lines, so that all of it fits 80 columns.
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True)
    for name in ("rows", *seen, "tokens each"):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for name, num in rows.items():
        found = outcomes.get(name, Counter())
        cells = [f"{num:,}", *(f"{found[each]:,}" for each in seen)]
        table.add_row(Text(name.replace("_", " ")), *cells, f"{tokens[name] / max(1, num):.0f}")
    return table


def outcomes_by_strategy(figures: Iterable[EngineFigures]) -> Mapping[Key, Mapping[str, int]]:
    """Stage and strategy -> what became of the rows -> their number, over all engines."""
    found: dict[Key, Counter[str]] = {}
    for each in figures:
        for name, counts in each.outcomes.items():
            found.setdefault((each.stage, name), Counter()).update(counts)
    return found


def _place(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), stage


def yield_text(num_rows: int, figures: Iterable[EngineFigures]) -> str:
    """Accepted rows for an engine-second and the reverse, in words; empty before the first, and of
    several stages at a time, whose rows are not one another's.
    """
    engines = list(figures)
    if len({each.stage for each in engines}) > 1:
        return ""
    seconds = sum(each.device_seconds for each in engines)
    if not num_rows or not seconds:
        return ""
    on = "GPU" if any(each.num_gpus for each in engines) else "engine"
    each = f"{seconds / num_rows:.3g} {on}-seconds each"
    return f"{num_rows / seconds:.3g} rows per {on}-second ({each})"
