"""`orca2 plan`: what a run's models are, where its engines would go, and what it would take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca2_gen.commands.options import config_argument, set_option
from orca2_gen.commands.own_process import answers_of
from orca2_gen.commands.preflight import ask_first
from orca2_gen.commands.printing import print_table
from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import REJECTED

if TYPE_CHECKING:
    from orca2_gen.config.schema import Config
    from orca2_gen.foresight.needs import WholeRun


@click.command()
@config_argument
@set_option
def plan(config_file: Path, overrides: tuple[str, ...]) -> None:
    """Print what CONFIG's models are, where their engines would go, and what the run would take.

    The models' files are asked all that a run asks first; what is odd about them is marked. Then
    the tasks are read, and requests, tokens, time and rows are estimated, each with where it lies
    in nine of ten cases: from the figures of runs and previews beside RUN_DIR as far as there are
    any.
    """
    from orca2_gen.config.arguments import roles_of_run
    from orca2_gen.preflight.race import race_line
    from orca2_gen.strategies import load_strategies
    from ray_jobs.cluster import cluster_nodes, gpu_models, ray_instance
    from ray_jobs.engines.placement import placements_on
    from ray_jobs.engines.room import cluster_lines

    config = load_config(config_file, overrides)
    ask_first(config, prints_facts=True)  # a plan that no run accepts would mislead
    with ray_instance():
        nodes = cluster_nodes()
        for line in cluster_lines(config, nodes, roles_of_run(config)):
            click.echo(line)
        gpus = gpu_models()
        placements = placements_on(config, nodes, roles_of_run(config))
    if line := race_line(config, load_strategies(config.strategies)):
        click.echo(line)
    devices = {role: (each.device == "gpu", each.ranks) for role, each in placements.items()}
    _print_estimate(config, gpus.pop() if len(gpus) == 1 else "", devices)


def _print_estimate(config: Config, gpu: str, devices: Mapping[str, tuple[bool, int]]) -> None:
    from orca2_gen.console.needs import needs_lines, needs_table

    for answer in answers_of(_estimated, config, gpu, devices):
        if isinstance(answer, str):
            click.echo(answer, err=True)
            continue
        found, known_from, misfit, num_problems = answer
        if misfit:
            click.echo(f"odd: a run would reject {misfit}", err=not num_problems)
        if not num_problems:
            click.echo("Error: the tasks hold no problem that could be asked", err=True)
            raise click.exceptions.Exit(REJECTED)
        print_table(needs_table(found, "What the run takes, and where it lies in 9 of 10 cases"))
        for line in needs_lines(found):
            click.echo(line)
        for stage, source in known_from.items():
            click.echo(f"speed of {stage}: known from {source}")


def _estimated(
    config: Config, gpu: str, devices: Mapping[str, tuple[bool, int]]
) -> Iterator[str | tuple[WholeRun, dict[str, str], str, int]]:
    """Lines about reading, and in the end what the run takes, what that is known from, why problems
    do not fit, and how many do.

    Args:
        config: the run's.
        gpu: model of all GPUs; empty if unknown.
        devices: role -> whether its engines run on GPUs, and the devices of one.
    """
    from orca2_gen.config.arguments import selection_rule
    from orca2_gen.estimates.observed import observed_beside
    from orca2_gen.estimates.planned import planned_engines
    from orca2_gen.estimates.reading import read_tasks
    from orca2_gen.estimates.whole_run import Known, sources, whole_run
    from orca2_gen.provenance.inputs import read_texts
    from train.flops import PEAKS

    inputs = read_texts(config)
    for read in read_tasks(config, inputs):
        if isinstance(read, int):
            yield f"reading the tasks: {read:,} rows so far"
            continue
        known = Known(
            config=config,
            strategies=inputs.strategies,
            rule=selection_rule(config, inputs.strategies),
            tasks=read,
            engines=planned_engines(config, gpu, devices),
            observed=observed_beside(Path(config.run_dir)),
            peaks=PEAKS,
        )
        yield whole_run(known), sources(known), read.misfit, read.num_problems
