"""The command of `orca2` that writes a dataset's rows for trainers of somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from orca2_gen.commands.options import PATH
from orca2_gen.dataset.export_files import Format
from orca2_gen.dataset.shapes import Shape

if TYPE_CHECKING:
    from orca2_gen.chat import Chat


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
@click.option(
    "--no-compare",
    is_flag=True,
    help="Do not count the rows whose text gives other tokens, which takes most of the time.",
)
@click.option(
    "--provenance",
    is_flag=True,
    help="Keep the column that says where each row comes from. LLaMA-Factory and axolotl may "
    "refuse a nested column that they do not know.",
)
def export(
    given: Path, out: Path, format_: Format, shape: Shape, no_compare: bool, provenance: bool
) -> None:
    """Write the rows of RUN's dataset to the directory OUT, in a shape that another trainer reads.

    RUN is a run directory or a dataset directory; the shape preference pairs the dataset's answers
    with refused ones, which lie in the run. OUT is new, empty, or an earlier export, which is
    replaced once the new one is whole. `datasets.load_dataset(OUT)` opens it; OUT/README.md says
    how TRL, axolotl and LLaMA-Factory do.

    Text is rendered and tokenised with the student's own template, as trainers do, and compared
    with the row's tokens, if RUN is a run and its student is there.
    """
    from orca2_gen.dataset import export as exporting

    root = exporting.dataset_directory(given)
    chat = None
    if not no_compare and shape != "tokens":
        try:
            chat = _chat_of(root)
        except ValueError as error:
            click.echo(f"note: no text is compared with the rows' tokens: {error}")
    tokenizer = chat and chat.tokenizer
    made = exporting.export(
        root,
        out,
        shape=shape,
        format=format_,
        tokenizer=tokenizer,
        has_provenance=provenance,
    )
    if made.other_tokens:
        click.echo(
            f"note: {made.other_tokens} of {made.rows} rows give other tokens, e.g. "
            f"{made.other_tokens_in!a}, where a trainer tokenises their text with the student's "
            "own template; export --shape tokens to train the dataset's"
        )
    files = len(made.files)
    what = "pairs" if made.unpaired is not None else f"rows of {shape}"
    told = f"{made.trained_tokens} of {made.input_tokens} tokens are trained"
    if made.unpaired is not None:
        told = f"{made.unpaired} rows of the dataset have no incorrect answer beside them"
    click.echo(f"{out}: {made.rows} {what} in {files} {format_} file{'s' * (files > 1)}; {told}")


def _chat_of(root: Path) -> Chat:
    """The Chat of the student that the rows of a run's dataset were encoded for.

    Raises:
        ValueError: it is not known, or not there any more.
    """
    from orca2_gen.chat import load_chat
    from orca2_gen.config.arguments import engine_rendering
    from orca2_gen.config.load import engine_directory, read_config
    from orca2_gen.dataset.manifest import read_manifest
    from orca2_gen.preflight.template import loaded_chat

    path = root.parent / "config.json"
    if not path.is_file():
        raise ValueError(f"{root} lies in no run, so its tokenizer is not known")
    config = read_config(path)
    manifest = read_manifest(root)
    rendering = manifest.rendering or engine_rendering(config.student, config.template_date)
    directory = engine_directory(config.student)
    if not Path(directory).is_dir():
        raise ValueError(f"the run's student is not at {directory} any more")
    chat = loaded_chat("student", directory, rendering, load_chat)
    digest = chat.digest if manifest.rendering else chat.undated_digest
    if digest != manifest.tokenizer_digest:
        raise ValueError(f"{directory} has another tokenizer or template than encoded the rows")
    return chat
