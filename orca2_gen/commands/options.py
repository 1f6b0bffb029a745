"""The argument and options that most commands of `orca2` take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orca2_gen.commands.printing import versions_line

PATH = click.Path(path_type=Path)


class RunDirectory(click.Path):
    """A path that may lead nowhere, but to no file."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.is_file():
            self.fail(f"{path} is a file; give the directory of a run (run_dir of its config)")
        return path


RUN = RunDirectory(path_type=Path)
config_argument = click.argument("config_file", metavar="CONFIG", type=PATH)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of CONFIG, e.g. run_dir=runs/two.",
)
_METRICS_PORT = "orca2_gen.metrics_port"


def _keep_port(context: click.Context, _: click.Parameter, port: int | None) -> None:
    context.meta[_METRICS_PORT] = port


metrics_option = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    expose_value=False,
    callback=_keep_port,
    help="Serve figures for Prometheus on this port of the loopback address.",
)


def metrics_port() -> int | None:
    """The port of `metrics_option` in the command that runs; None if it was not given."""
    port: int | None = click.get_current_context().meta.get(_METRICS_PORT)
    return port


check_option = click.option(
    "--check",
    is_flag=True,
    help="Compare every committed file with its digest, not only with its size.",
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of those that go on with a run's stages."""
    return check_option(metrics_option(command))


def _print_versions(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        click.echo(versions_line())
        context.exit()


version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the version, and those of vLLM, Ray and torch.",
)
