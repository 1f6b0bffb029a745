"""The page of a run: its numbers, and the template that they go into.

Data is never template source: everything is a value of one template of ours, which escapes it.
"""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pyarrow.compute as pc

from orca2_gen.dataset.facts import RunFacts
from orca2_gen.evaluations.accuracies import Accuracy, Difference, evaluations
from orca2_gen.provenance.cost import (
    StageCost,
    StrategyCost,
    cost_line,
    stage_costs,
    strategy_costs,
)
from orca2_gen.provenance.recorded import read_recorded
from orca2_gen.provenance.run_facts import run_facts
from orca2_gen.records import Rejection, Selection
from orca2_gen.report.ablations import Ablations, read_ablations
from orca2_gen.report.samples import SampleRow, sample_rows
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.claim import no_run
from orca2_gen.run_directory.engine_figures import read_figures
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from orca2_gen.run_directory.units import STAGES
from orca2_gen.strategies import CAUTIOUS
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE, NEAR

REASON_SAMPLES = 3
"""Rejections that are shown of each reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRows:
    """The rejections of one stage for one reason."""

    stage: str
    reason: str
    num: int
    samples: tuple[tuple[str, str], ...]
    """Problem and detail of some of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RacePoint:
    """The race after some blocks, over all groups."""

    block: int
    survivors: float
    """Mean number of strategies still in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """All that a page shows."""

    name: str
    facts: RunFacts | None
    """None if only an older version opened the run."""
    strategies: tuple[str, ...]
    selections: tuple[Selection, ...]
    race: tuple[RacePoint, ...]
    rejections: tuple[RejectedRows, ...]
    accuracies: tuple[Accuracy, ...]
    differences: tuple[Difference, ...]
    ablations: Ablations | None
    ablations_fault: str
    """Why the ablations beside the run cannot be shown; empty if there are none, or they are."""
    stages: tuple[StageCost, ...]
    by_strategy: tuple[StrategyCost, ...]
    cost: str
    num_rows: int
    samples: tuple[SampleRow, ...]


def page_of(run_dir: Path) -> Page:
    """The Page of a run, whatever of it is there.

    Raises:
        ValueError: it is no run, or has committed nothing.
        DamagedFile: a file that the ledger lists is damaged.
    """
    ledger = read_ledger(run_dir)
    if not ledger.units:
        raise no_run(run_dir)
    selections = committed_rows(ledger, "selections", Selection)
    figures = read_figures(run_dir)
    accuracies, differences = evaluations(ledger)
    ablations = read_ablations(run_dir)
    names = dict.fromkeys(each.strategy for s in selections for each in s.summaries)
    return Page(
        name=run_dir.resolve().name,
        facts=run_facts(read_recorded(run_dir), ledger),
        strategies=tuple(names),
        selections=tuple(selections),
        race=tuple(_race(selections)),
        rejections=tuple(_rejections(ledger)),
        accuracies=tuple(accuracies),
        differences=tuple(differences),
        ablations=ablations if isinstance(ablations, Ablations) else None,
        ablations_fault=ablations if isinstance(ablations, str) else "",
        stages=tuple(stage_costs(figures)),
        by_strategy=tuple(strategy_costs(figures)),
        cost=cost_line(ledger, figures),
        num_rows=sum(receipt.counts["accepted"] for receipt in ledger.committed("examples")),
        samples=tuple(sample_rows(ledger)),
    )


def _race(selections: list[Selection]) -> list[RacePoint]:
    # The cautious message is scored beside the race and never falls.
    raced = [
        [s.fell_in_block for s in each.summaries if s.strategy != CAUTIOUS]
        for each in selections
        if each.method == "race" and each.summaries
    ]
    last = max((fell for each in raced for fell in each), default=-1)
    return [
        RacePoint(
            block=block,
            survivors=sum(sum(not 0 <= fell < block for fell in each) for each in raced)
            / len(raced),
        )
        for block in range(last + 2)
        if raced
    ]


def _rejections(ledger: Ledger) -> list[RejectedRows]:
    """The rejections of every stage, the most frequent reason first."""
    found: list[RejectedRows] = []
    for stage in STAGES:
        counts: dict[str, int] = {}
        samples: dict[str, list[tuple[str, str]]] = {}
        for receipt in ledger.committed(stage):
            if receipt.rejections is None:
                continue
            table = read_table(ledger.run_dir, receipt.rejections, Rejection)
            for found_reason in pc.value_counts(table.column("reason")).to_pylist():
                reason, num = found_reason["values"], found_reason["counts"]
                counts[reason] = counts.get(reason, 0) + num
                some = samples.setdefault(reason, [])
                if (left := REASON_SAMPLES - len(some)) > 0:
                    rows = table.filter(pc.equal(table.column("reason"), reason)).slice(0, left)
                    names, details = (
                        rows.column(name).to_pylist() for name in ("problem_id", "detail")
                    )
                    some += zip(names, details, strict=True)
        found += [
            RejectedRows(stage=stage, reason=reason, num=num, samples=tuple(samples[reason]))
            for reason, num in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
    return found


def rendered(page: Page, other: Page | None = None) -> str:
    """The page as HTML, complete in itself; with `other`, both runs side by side."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": _percent,
        "words": _words,
        "quoted": shlex.quote,
        "heat": _heat,
    }
    environment.globals |= {"DUPLICATE": DUPLICATE, "CONTAMINATED": CONTAMINATED, "NEAR": NEAR}
    if other is not None and other.name == page.name:  # a reader aloud knows them by their names
        other = dataclasses.replace(other, name=f"{other.name} (second)")
    pages = [page] if other is None else [page, other]
    return environment.get_template("page.html.jinja").render(pages=pages, script=_script())


def _script() -> Any:
    """Our own script, for search, sorting and paging; the page is whole without it."""
    return markupsafe.Markup((Path(__file__).parent / "page.js.txt").read_text(encoding="utf-8"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _heat(mean: float) -> int:
    """A step of the heat map's colours, from 0 to 10."""
    return max(0, min(10, round(10 * mean)))
