"""`orca2 status`: what a run has committed, what its engines do and what they cost."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca2_gen.commands.options import RUN
from orca2_gen.commands.printing import print_cost, print_selections
from orca2_gen.console.progress import LOOK_SECONDS
from orca2_gen.run_directory.claim import no_run
from orca2_gen.run_directory.engine_figures import read_figures
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.lock import LOCK_FILE, TOUCH_SECONDS, last_touch
from orca2_gen.run_directory.units import STAGES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orca2_gen.run_directory.ledger import Ledger

SILENT_SECONDS = 4 * TOUCH_SECONDS
"""Seconds without a touch of the lock after which `--watch` doubts that the driver lives."""


@click.command()
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.option("--watch", is_flag=True, help="Show it again and again, until the run's driver ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def status(run_dir: Path, watch: bool, as_json: bool) -> None:
    """Print what a run has committed, what its engines do, and what they cost.

    It works from any machine that sees the directory, for a run that is going on and for one that
    has ended, however it ended. Stages that read tasks are told task by task, with the reasons of
    what they rejected, and the teacher's attempts with the faults of those that were refused.
    """
    if watch and as_json:
        raise click.UsageError("--watch is for people and --json for programs; give one of them")
    if watch:
        _watch(run_dir)
        return
    if as_json:
        click.echo(json.dumps(state_of(run_dir), indent=2, sort_keys=True))
        return
    ledger, engines = _found(run_dir), read_figures(run_dir)
    _print_stages(ledger)
    if ledger.committed("selections"):
        print_selections(ledger)
    print_cost(ledger, with_strategies=True)
    if engines and last_touch(run_dir / LOCK_FILE) is not None:
        click.echo(f"{LOCK_FILE} names a driver; --watch shows whether it works, and its engines")


def state_of(run_dir: Path) -> dict[str, Any]:
    """What `orca2 status --json` prints.

    Returns:
        `stages` (stage -> units and rows), `tasks` (task -> rows read, by fate), `engines` (one
        object for each start, as RUN/engines has them), `cost` (by stage and by strategy), and
        `has_driver` (whether a driver's lock is there).
    """
    from orca2_gen.provenance.cost import stage_costs, strategy_costs
    from orca2_gen.tasks.counts import READING, counts_by_task

    ledger, engines = _found(run_dir), read_figures(run_dir)
    stages = {}
    for stage in STAGES:
        if receipts := ledger.committed(stage):
            stages[stage] = {
                "units": len(receipts),
                "input": sum(receipt.counts["input"] for receipt in receipts),
                "accepted": sum(receipt.counts["accepted"] for receipt in receipts),
                "rejected": sum(receipt.counts["rejected"] for receipt in receipts),
            }
    return {
        "run_dir": str(run_dir),
        "has_driver": last_touch(run_dir / LOCK_FILE) is not None,
        "stages": stages,
        "tasks": {
            stage: {
                counts.task: {
                    "input": counts.input,
                    "accepted": counts.accepted,
                    "rejected": counts.rejected,
                    "reasons": dict(counts.reasons),
                    "passed_over": counts.passed_over,
                    "near_duplicates": counts.near_duplicates,
                }
                for counts in counts_by_task(ledger, stage).values()
            }
            for stage in READING
        },
        "engines": [dataclasses.asdict(each) for each in engines.values()],
        "cost": {
            "stages": [
                {**dataclasses.asdict(cost), "idle": cost.idle} for cost in stage_costs(engines)
            ],
            "strategies": [dataclasses.asdict(cost) for cost in strategy_costs(engines)],
        },
    }


def _found(run_dir: Path) -> Ledger:
    """The ledger of a run.

    Raises:
        ValueError: nothing is there that a run has left.
    """
    ledger = read_ledger(run_dir)
    if not ledger.units and not read_figures(run_dir):
        raise no_run(run_dir)
    return ledger


def _ledger_bytes(run_dir: Path) -> int:
    path = run_dir / "ledger.jsonl"
    return path.stat().st_size if path.exists() else 0


def _print_stages(ledger: Ledger) -> None:
    from orca2_gen.console.tables import attempts_line, stage_line
    from orca2_gen.tasks.counts import READING, counts_by_task

    for stage in STAGES:
        if receipts := ledger.committed(stage):
            click.echo(f"{stage}: {stage_line(receipts)}")
        if stage == "rationales" and (line := attempts_line(ledger)):
            click.echo(f"  {line}")
        if stage in READING:
            for counts in counts_by_task(ledger, stage).values():
                click.echo(f"  {counts.sentence}")


def _watch(run_dir: Path) -> None:
    """Shows a run until its driver has let go of the lock, or Ctrl-C."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from orca2_gen.console.engines import EngineRates, engine_table
    from orca2_gen.console.strategies import strategy_tables
    from orca2_gen.console.tables import stage_line
    from orca2_gen.provenance.cost import cost_line

    _found(run_dir)
    console, rates, lock = Console(), EngineRates(), run_dir / LOCK_FILE
    touched, since = last_touch(lock), time.monotonic()
    # An engine that was killed never says that it ended; what reports while we look lives.
    rates.add(read_figures(run_dir), are_old=True)
    num_bytes, ledger = _ledger_bytes(run_dir), read_ledger(run_dir)

    def screen() -> RenderableType:
        nonlocal ledger, num_bytes
        if (found := _ledger_bytes(run_dir)) != num_bytes:  # a long one takes a while
            num_bytes, ledger = found, read_ledger(run_dir)
        engines = read_figures(run_dir)
        rates.add(engines)
        lines = [
            f"{stage}: {stage_line(receipts)}"
            for stage in STAGES
            if (receipts := ledger.committed(stage))
        ]
        if line := cost_line(ledger, engines):
            lines.append(line)
        if time.monotonic() - since > SILENT_SECONDS:
            lines.append(f"no sign of the driver for {time.monotonic() - since:.0f} s")
        stages = {each.stage for each in rates.living(engines)}
        tables = strategy_tables(each for each in engines.values() if each.stage in stages)
        num_lines = len(lines) + 6 + sum(table.row_count + 3 for table in tables)
        shown = tables if num_lines < console.height else []
        most = console.height - (num_lines if shown else len(lines) + 6)
        table = engine_table(engines, rates, max(1, most))
        return Group(Text("\n".join(lines)), table, *shown)

    with Live(screen(), console=console, refresh_per_second=4) as live:
        while True:
            live.update(screen())
            if (now := last_touch(lock)) is None:
                return
            if now != touched:
                touched, since = now, time.monotonic()
            time.sleep(LOOK_SECONDS)
