"""A run's results as tables for people: selections, both sides of an example, changes, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from orca2_gen.provenance.cost import stage_costs, strategy_costs
from orca2_gen.records import Example, Rationale, Selection
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.ledger import Ledger, committed_rows
from orca2_gen.run_directory.row_names import row_name, rows_in_words
from orca2_gen.run_directory.units import Receipt

if TYPE_CHECKING:
    from orca2_gen.dataset.figures import DatasetSummary
    from orca2_gen.provenance.accounting import Verification
    from orca2_gen.provenance.regrade import Changes
    from orca2_gen.run_directory.engine_figures import EngineFigures


def selection_table(ledger: Ledger) -> Table:
    """Accuracy (and mean completion tokens) by group and strategy, the chosen cell marked."""
    found = committed_rows(ledger, "selections", Selection)
    title = "Accuracy in % (mean completion tokens) by group and strategy; * is the selected one"
    table = Table(title=title, title_justify="left")
    table.add_column("group")
    names = [s.strategy for s in found[0].summaries] if found else []
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("why")
    for selection in found:
        cells = []
        for summary in selection.summaries:
            chosen = summary.strategy == selection.strategy
            cell = (
                f"{100 * summary.mean:.0f} ({summary.mean_completion_tokens:.0f})"
                if summary.num_scored
                else "-"
            )
            cells.append(
                Text(f"* {cell}" if chosen else cell, style="bold green" if chosen else "")
            )
        reason = selection.reason.replace("_", " ") + (", fragile" if selection.fragile else "")
        table.add_row(Text(selection.group), *cells, f"{reason} of {selection.num_scored_problems}")
    return table


def outcome_table(ledger: Ledger) -> Table:
    """By strategy: selections, falls and the shares of its answers that were not judged or forced.

    A caption warns if those answers could have changed a choice.
    """
    found = committed_rows(ledger, "selections", Selection)
    title = "Answers that were not judged, and those of a forced ending, in % of those scored"
    table = Table(title=title, title_justify="left")
    table.add_column("strategy")
    for name in ("selected", "fell", "scored", "truncated", "unparsed", "ungraded", "forced"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(s.strategy for each in found for s in each.summaries):
        rows = [s for each in found for s in each.summaries if s.strategy == name]
        num = sum(s.num_scored for s in rows)
        lost = [
            sum(s.num_truncated for s in rows),
            sum(s.num_unparsed for s in rows),
            sum(s.num_ungraded for s in rows),
            sum(s.num_forced for s in rows),
        ]
        counts = [
            sum(each.strategy == name for each in found),
            sum(s.fell_in_block >= 0 for s in rows),
            num,
        ]
        shares = [f"{100 * each / num:.1f}" if num else "-" for each in lost]
        table.add_row(name.replace("_", " "), *map(str, counts), *shares)
    fragile = [each.group for each in found if each.fragile]
    if fragile:
        more = f" and {len(fragile) - 5} more" if len(fragile) > 5 else ""
        table.caption = Text(
            f"{len(fragile)} of {len(found)} choices are fragile: counting unjudged answers as "
            f"right, or forced ones as wrong, would change them ({', '.join(fragile[:5])}{more})"
        )
    return table


def example_table(rationale: Rationale, example: Example) -> Table:
    """One conversation as the teacher saw it and as the student trains on it."""
    name = row_name(example.problem_id, example.attempt)
    table = Table(title=f"{name} ({example.strategy})", title_justify="left", show_lines=True)
    table.add_column("")
    table.add_column("as the teacher saw it")
    table.add_column("as the student trains on it (loss on the last row only)")
    trained = {message.role: message.content for message in example.messages}
    saw = {"system": rationale.system, "user": rationale.user, "assistant": rationale.text}
    for role in ("system", "user", "assistant"):
        table.add_row(role, Text(saw[role]), Text(trained.get(role, "(none)")))
    return table


def cost_table(figures: Mapping[str, EngineFigures]) -> Table:
    """What the engines of each stage cost, and what became of their seconds."""
    on = "GPU" if any(each.num_gpus for each in figures.values()) else "engine"
    table = Table(title=f"Cost by stage; {on}-seconds", title_justify="left")
    table.add_column("stage")
    for name in (f"{on} s", "starts", "loading", "busy", "idle", "tokens in", "cached", "out"):
        table.add_column(name, justify="right")
    table.add_column("GPU")
    for cost in stage_costs(figures):
        seconds = (cost.device_seconds, cost.num_starts, cost.loading, cost.busy, cost.idle)
        tokens = (cost.prompt_tokens, cost.cached_tokens, cost.generated_tokens)
        numbers = [f"{number:,.0f}" for number in (*seconds, *tokens)]
        table.add_row(Text(cost.stage), *numbers, Text(", ".join(cost.gpus) or "none"))
    return table


def strategy_cost_table(figures: Mapping[str, EngineFigures]) -> Table:
    """What the requests of each strategy cost, by stage."""
    on = "GPU" if any(each.num_gpus for each in figures.values()) else "engine"
    table = Table(
        title=f"Cost by strategy; {on}-seconds are shared out by tokens", title_justify="left"
    )
    for name in ("stage", "strategy"):
        table.add_column(name)
    for name in (f"{on} s", "requests", "truncated", "tokens in", "cached", "out", "s each"):
        table.add_column(name, justify="right")
    for cost in strategy_costs(figures):
        made = cost.answers
        tokens = (made.prompt_tokens, made.cached_tokens, made.completion_tokens)
        numbers = (cost.device_seconds, made.requests, made.truncated, *tokens)
        name = cost.strategy.replace("_", " ") or "none"
        shown = [f"{number:,.0f}" for number in numbers]
        each = f"{made.seconds / made.requests:.1f}" if made.requests else ""
        table.add_row(Text(cost.stage), Text(name), *shown, each)
    return table


def verification_table(found: Verification) -> Table:
    """Input, accepted, rejected and not needed, by stage; where problems have several rationales,
    also the accepted rows and their problems.
    """
    table = Table(title="Counted by id", title_justify="left")
    names = ["stage", "input", "accepted", "rejected", "not_needed"]
    names += ["rows", "problems"] if found.several else []
    for name in names:
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in found.table:
        table.add_row(*map(str, (*row, *found.several.get(row[0], ()))))
    return table


def regrading_table(changes: Mapping[tuple[str, str, str], Changes]) -> Table:
    """Changed verdicts and accuracies before and after, by (stage, task, strategy)."""
    table = Table(
        title="Answers graded again, by task and strategy; accuracy in % over the same cells",
        title_justify="left",
    )
    for name in ("stage", "task", "strategy"):
        table.add_column(name)
    for name in ("cells", "now correct", "now not correct", "other", "before", "after"):
        table.add_column(name, justify="right")
    for (stage, task, strategy), found in changes.items():
        counts = (found.num_cells, found.now_correct, found.now_not_correct, found.other)
        means = (f"{100 * mean:.1f}" for mean in (found.before, found.after))
        table.add_row(stage, task, strategy.replace("_", " "), *map(str, counts), *means)
    return table


def stage_line(receipts: Sequence[Receipt]) -> str:
    """A line that counts a stage's units, rows and rejections, and the problems of rationales."""
    rows = sum(receipt.counts["accepted"] for receipt in receipts)
    rejected = sum(receipt.counts["rejected"] for receipt in receipts)
    taken_in = sum(receipt.taken_in for receipt in receipts)
    counted = rows_in_words(rows, taken_in - rejected)
    return f"{len(receipts)} units, {counted}, {rejected} rejected"


def attempts_line(ledger: Ledger) -> str:
    """A line that counts the teacher's attempts, by what became of them; empty if a run did not
    keep the refused ones.
    """
    receipts = ledger.committed("rationales")
    faults: Counter[str] = Counter()
    for receipt in receipts:
        if receipt.refused is not None:
            table = read_table(ledger.run_dir, receipt.refused, Rationale)
            faults.update(table.column("fault").to_pylist())
    if not faults:
        return ""
    accepted = sum(receipt.counts["accepted"] for receipt in receipts)
    ordered = sorted(faults.items(), key=lambda item: (-item[1], item[0]))
    why = ", ".join(f"{num} {fault}" for fault, num in ordered)
    return (
        f"{accepted + faults.total()} attempts, {accepted} accepted, {faults.total()} refused "
        f"({why})"
    )


def dataset_line(summary: DatasetSummary, ledger: Ledger) -> str:
    """A line that counts a run's rows and rejections."""
    rejected = sum(
        receipt.counts["rejected"]
        for receipt in ledger.units.values()
        if not receipt.stage.startswith("eval")
    )
    return (
        f"{summary.directory}: {summary.counted} in {summary.shards} shards, "
        f"{summary.trained_tokens} trained tokens of {summary.input_tokens}; {rejected} rejections "
        f"are in {ledger.run_dir / 'rejections'}"
    )
