"""The command of `orca2` that trains."""

from __future__ import annotations

from pathlib import Path

import click

from orca2_gen.commands.options import config_argument, set_option
from orca2_gen.commands.preflight import ask_training
from orca2_gen.config.load import load_config


@click.command()
@config_argument
@set_option
@click.option(
    "--nproc-per-node", default=1, show_default=True, help="torchrun's option: one process per GPU."
)
@click.option(
    "--override",
    "may_change",
    is_flag=True,
    help="Go on from a state though learning rate, schedule, length or clipping differ.",
)
def train(
    config_file: Path, overrides: tuple[str, ...], nproc_per_node: int, may_change: bool
) -> None:
    """Fine-tune the student on the run's dataset, as `torchrun -m train.sft CONFIG` does."""
    from train.launch import train_student

    ask_training(load_config(config_file, overrides), nproc_per_node)
    train_student(config_file, overrides, nproc_per_node, may_change=may_change)
