"""The command of `orca2` that makes a student of a base model."""

from __future__ import annotations

from pathlib import Path

import click

from orca2_gen.commands.options import PATH


@click.command()
@click.argument("model", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--template",
    default="chatml",
    show_default=True,
    metavar="chatml|FILE",
    help="The chat template; a FILE needs --end.",
)
@click.option("--end", metavar="TOKEN", help="The token that ends a turn in the FILE's template.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    metavar="TOKEN",
    help="A further token to add, e.g. <think>; may be given again.",
)
@click.option(
    "--bos/--no-bos",
    "begins",
    default=None,
    help="Whether a conversation of ChatML begins with bos.  [default: as MODEL's files say]",
)
@click.option("--force", is_flag=True, help="Replace a chat template that MODEL has already.")
def prepare(
    model: Path,
    out: Path,
    template: str,
    end: str | None,
    tokens: tuple[str, ...],
    begins: bool | None,
    force: bool,
) -> None:
    """Make student directory OUT of base model MODEL: control tokens, their rows, a chat template.

    Tokens that MODEL has keep their ids; nothing of it changes but the rows of new ones. A new row
    is the mean of the others, with a little noise of their covariance.
    """
    from orca2_gen.preparation import Wish, prepare

    done = prepare(
        Wish(
            model=model,
            out=out,
            template=template,
            end=end,
            tokens=tokens,
            begins=begins,
            replaces_template=force,
        )
    )
    for line in done.lines:
        click.echo(line)
    for line in done.odd:
        click.echo(f"odd: {line}", err=True)
    click.echo(f"{out}: a student directory")
