"""`orca2 report`: one page that shows a run, or two."""

from __future__ import annotations

from pathlib import Path

import click

from orca2_gen.commands.options import PATH, RUN
from orca2_gen.run_directory.durable_files import write_bytes


@click.command()
@click.argument("run_dir", metavar="RUN", type=RUN)
@click.argument("other_dir", metavar="[RUN]", required=False, type=PATH)
@click.option("--out", type=PATH, help="The page.  [default: RUN/report.html]")
def report(run_dir: Path, other_dir: Path | None, out: Path | None) -> None:
    """Write one HTML page about RUN: choices, the race, accuracies, rows, rejections, cost.

    It is complete in itself: it loads nothing and can be sent as it is. A second RUN is shown below
    the first.
    """
    from orca2_gen.report.page import page_of, rendered

    page = page_of(run_dir)
    other = page_of(other_dir) if other_dir is not None else None
    place = out or run_dir / "report.html"
    write_bytes(place, rendered(page, other).encode())
    click.echo(str(place))
