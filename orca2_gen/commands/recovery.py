"""The command of `orca2` that mends a run directory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca2_gen.commands.options import RUN

if TYPE_CHECKING:
    from orca2_gen.provenance.recover import Recovery

MOST_LINES = 20


@click.command()
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.option("--yes", is_flag=True, help="Do it; without this, only show what would be done.")
def recover(run_dir: Path, yes: bool) -> None:
    """Rebuild the damaged or lost ledger of RUN from its units' files.

    What cannot be proved, with all that rests on it, goes to RUN/set-aside and is made again by the
    next `orca2 run`.
    """
    from orca2_gen.provenance import recover as recovery

    found = recovery.recover(run_dir) if yes else recovery.plan_recovery(run_dir)
    for line in _lines(found, run_dir, is_done=yes):
        click.echo(line)


def _lines(found: Recovery, run_dir: Path, *, is_done: bool) -> list[str]:
    if not found.damage:
        return [
            f"{run_dir}: its ledger is whole, so there is nothing to recover; damaged files of "
            f"units are made again in another run_dir with --fork {run_dir}"
        ]
    lines = [f"damage: {found.damage}"]
    stages = Counter(receipt.stage for receipt in found.receipts)
    fallen = Counter(stage for stage, _ in found.fallen)
    for stage in dict.fromkeys([*stages, *fallen]):
        more = f", {fallen[stage]} rest on what is not" if fallen[stage] else ""
        lines.append(f"{stage}: {stages[stage]} units are proved{more}")
    lines += [f"not proved: {line}" for line in found.unproved[:MOST_LINES]]
    if len(found.unproved) > MOST_LINES:
        lines.append(f"and {len(found.unproved) - MOST_LINES} more that are not proved")
    num, listed = len(found.receipts), found.num_listed
    proof = f"{listed} by lines that are left and {num - listed} by their files alone"
    if is_done:
        lines.append(
            f"{run_dir}: the ledger now lists {num} units, {proof}; the damaged one and all other "
            "units' files are in set-aside; run the same command again to make the rest"
        )
    else:
        lines.append(
            f"{run_dir}: nothing was changed; with --yes the ledger would list {num} units, "
            f"{proof}, and all other units' files would go to set-aside"
        )
    return lines
