"""`orca2 init`: a first config, from what lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca2_gen.commands.options import PATH
from orca2_gen.commands.preflight import ask_first
from orca2_gen.config.load import load_config
from orca2_gen.doctor.gpus import Gpu, gpus_by_smi
from orca2_gen.doctor.packages import installed
from orca2_gen.run_directory.durable_files import write_bytes

if TYPE_CHECKING:
    from orca2_gen.draft.models import FoundModel


@click.command()
@click.argument("config_file", metavar="CONFIG", type=PATH)
@click.option(
    "--models",
    default="models",
    show_default=True,
    type=PATH,
    help="A directory with models, at most three folders deep.",
)
@click.option(
    "--tasks",
    "task_paths",
    multiple=True,
    type=PATH,
    help="A task file, or a directory of them; several may be given.  [default: data]",
)
@click.option("--student", type=PATH, help="The student's model.  [default: the smallest]")
@click.option("--teacher", type=PATH, help="The teacher's model.  [default: the largest]")
@click.option("--run-dir", default="runs/first", show_default=True, help="The run's directory.")
def init(
    config_file: Path,
    models: Path,
    task_paths: tuple[Path, ...],
    student: Path | None,
    teacher: Path | None,
    run_dir: str,
) -> None:
    """Write a first CONFIG: the models, task files and GPUs that are found here.

    Each task file is tried in every format, and gets the one that reads most of its first rows. A
    name with test, dev or eval at its end is for evaluation. Then the config is asked what
    `orca2 plan` asks of files.
    """
    from orca2_gen.draft.models import models_in
    from orca2_gen.draft.tasks import tasks_in
    from orca2_gen.draft.text import config_text

    if config_file.exists():
        raise ValueError(f"{config_file} is there already; give another name")
    found = models_in(models)
    trainable = [each for each in found if not each.is_quantized]
    smallest = _chosen("student", models if student is None else student, trainable[:1], student)
    largest = _chosen("teacher", models if teacher is None else teacher, found[-1:], teacher)
    paths = task_paths or (Path("data"),)
    if absent := [path for path in paths if not path.exists()]:
        raise ValueError(f"no task file at {absent[0]}; give --tasks")
    tasks = tasks_in(paths)
    for task in tasks:
        if not task.format:
            click.echo(f"left out: {task.path}: {task.reason}", err=True)
    readable = [task for task in tasks if task.format]
    if not readable:
        raise ValueError(
            f"no task file in {', '.join(map(str, paths))} that a format reads; see docs/data.md"
        )
    if all(task.is_held_out for task in readable):
        raise ValueError(
            f"the names of all task files say that they are for evaluation, such as "
            f"{readable[0].path}; rename what is to be trained on, or give other --tasks"
        )
    gpus = _visible(gpus_by_smi()[0]) if installed("vllm") else []
    text = config_text(run_dir, smallest, largest, readable, gpus, config_file.parent)
    # Asked under another name first: a config that cannot work would be in the way of the next try.
    draft = config_file.with_name(f".{config_file.name}.draft.toml")
    write_bytes(draft, text.encode())
    try:
        ask_first(load_config(draft, ()))
        draft.replace(config_file)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"{config_file}: student {smallest.directory}, teacher {largest.directory}")
    for task in readable:
        use = "evaluation" if task.is_held_out else "training"
        click.echo(
            f"  {task.name}: {task.path}, format {task.format}, for {use}; {task.num_problems} of "
            f"the first {task.num_rows} rows are problems"
        )
    click.echo(f"next: orca2 plan {config_file}, then orca2 run {config_file}")


def _chosen(role: str, place: Path, found: list[FoundModel], given: Path | None) -> FoundModel:
    """The model that was given for a role, else the one that was found.

    Raises:
        ValueError: there is none.
    """
    from orca2_gen.draft.models import models_in

    of_role = found if given is None else models_in(given)
    if not of_role:
        raise ValueError(
            f"no model for the {role} in {place}: a model's directory has config.json, "
            f"tokenizer.json and .safetensors files; give --models or --{role}"
        )
    return of_role[0]


def _visible(gpus: list[Gpu]) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this user."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    return gpus[: len([each for each in visible.split(",") if each.strip()])]
