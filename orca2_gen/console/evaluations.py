"""Accuracies that can be quoted, and differences of models, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from orca2_gen.evaluations.accuracies import Accuracy, Difference


def accuracies_table(accuracies: Sequence[Accuracy]) -> Table:
    """Accuracies in % with intervals, and how the answers ended.

    Where verdicts rest on forced endings, the accuracy with those as wrong ones follows in
    brackets. Where answers have no verdict, their share has a column.
    """
    has_forced = any(each.mean != each.unforced for each in accuracies)
    title = "All models of the run on its held-out tasks, in % (95% intervals)"
    title += " (in brackets: forced answers counted as wrong)" if has_forced else ""
    table = Table(title=title, title_justify="left")
    for name in ("task", "message", "model"):
        table.add_column(name)
    shares = ["truncated", "unparsed", "forced"]
    shares += ["ungraded"] if any(each.ungraded for each in accuracies) else []
    for name in ("accuracy", "interval", "items", *shares, "tokens"):
        table.add_column(name, justify="right")
    for each in accuracies:
        unforced = f" ({100 * each.unforced:.1f})" if has_forced else ""
        table.add_row(
            *map(Text, (each.task, each.message, each.model)),
            f"{100 * each.mean:.1f}{unforced}",
            f"{100 * each.low:.1f} to {100 * each.high:.1f}",
            each.items,
            *(f"{100 * getattr(each, share):.1f}" for share in shares),
            f"{each.tokens:.0f}",
        )
    return table


def differences_table(differences: Sequence[Difference]) -> Table:
    """Models against the first one, item by item, in percentage points."""
    title = "Later models against the first, on the same items, in points (95% intervals)"
    table = Table(title=title, title_justify="left")
    for name in ("task", "message", "models"):
        table.add_column(name)
    for name in ("difference", "interval", "items"):
        table.add_column(name, justify="right")
    for each in differences:
        table.add_row(
            *map(Text, (each.task, each.message, f"{each.second} less {each.first}")),
            f"{100 * each.mean:+.1f}",
            f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
            f"{each.num}",
        )
    return table
