"""The command of `orca2` that writes a dataset's rows for trainers of somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from orca2_gen.commands.options import PATH
from orca2_gen.dataset.export_files import Format
from orca2_gen.dataset.shapes import Shape


@click.command()
@click.argument("given", metavar="RUN", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "format_",
    type=click.Choice(get_args(Format)),
    default="parquet",
    show_default=True,
)
@click.option("--shape", type=click.Choice(get_args(Shape)), default="messages", show_default=True)
def export(given: Path, out: Path, format_: Format, shape: Shape) -> None:
    """Write the rows of RUN's dataset to the directory OUT, in a shape that another trainer reads.

    RUN is a run directory or a dataset directory. OUT is new, empty, or an earlier export, which is
    replaced once the new one is whole. `datasets.load_dataset(OUT)` opens it; OUT/README.md says
    how TRL, axolotl and LLaMA-Factory do.
    """
    from orca2_gen.dataset import export as exporting

    made = exporting.export(exporting.dataset_directory(given), out, shape=shape, format=format_)
    files = len(made.files)
    click.echo(
        f"{out}: {made.rows} rows of {shape} in {files} {format_} file{'s' * (files > 1)}; "
        f"{made.trained_tokens} of {made.input_tokens} tokens are trained"
    )
