"""The argument and options that most commands of `orca2` take."""

from __future__ import annotations

from pathlib import Path

import click

from orca2_gen.commands.printing import versions_line

PATH = click.Path(path_type=Path)
config_argument = click.argument("config_file", metavar="CONFIG", type=PATH)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of CONFIG, e.g. run_dir=runs/two.",
)
check_option = click.option(
    "--check",
    is_flag=True,
    help="Compare every committed file with its digest, not only with its size.",
)


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
