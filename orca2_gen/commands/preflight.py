"""The questions that every command asks first, and what it prints of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from orca2_gen.config.load import engine_directory
from orca2_gen.config.paths import check_paths
from orca2_gen.config.schema import Config
from orca2_gen.config.training import TrainingConfig

Lines = tuple[str, tuple[str, ...], tuple[str, ...]]
"""What is asked about (key and directory), facts, and what is odd."""


def ask_first(config: Config, *, prints_facts: bool = False) -> None:
    """Asks of the files of every engine, and of the student's training; prints the answers.

    Args:
        config: a config whose paths exist.
        prints_facts: whether all of it is printed; else what is odd, on stderr.

    Raises:
        ValueError: something cannot work; one line that names role, directory and remedy.
    """
    from orca2_gen.provenance.inputs import asked_texts

    engines = [
        (f"{each.key}: {each.directory}", each.facts, each.odd) for each in asked_texts(config)[1]
    ]
    for about, facts, odd in (*engines, *_training(config)):
        if prints_facts:
            click.echo(about)
            for line in (*facts, *(f"odd: {line}" for line in odd)):
                click.echo(f"  {line}")
        else:
            for line in odd:
                click.echo(f"{about}: {line}", err=True)


def ask_training(config: Config, num_ranks: int) -> None:
    """Asks whether the student can be trained, and prints what is odd on stderr.

    Raises:
        ValueError: it cannot; one line that names key, directory and remedy.
    """
    for about, _, odd in _trained(config, num_ranks):
        for line in odd:
            click.echo(f"{about}: {line}", err=True)


def ask_if_seen(config: Config) -> None:
    """Asks as `ask_first` where the config's files are seen from here, not on the cluster alone.

    Raises:
        ValueError: as `ask_first`.
    """
    try:
        check_paths(config)
    except ValueError:  # the job itself says which is absent
        return
    ask_first(config)


def _training(config: Config) -> Iterator[Lines]:
    """The Lines about the student's training; what cannot work is odd if nobody asked for it.

    Raises:
        ValueError: the config has a training section, and the student cannot be trained so.
    """
    if _model(config)[0] == "student.tokenizer":  # of a scripted engine, a rehearsal
        return
    try:
        yield from _trained(config)
    except ValueError as error:
        if _is_asked_for(config):
            raise
        key, directory = _model(config)
        reason = str(error).removeprefix(f"{key}: ").removeprefix(f"{directory}: ")
        yield f"training of {key}: {directory}", (), (f"it cannot be trained: {reason}",)


def _trained(config: Config, num_ranks: int | None = None) -> Iterator[Lines]:
    from orca2_gen.preflight.trained_model import check_trained_model
    from train.trainable import TrainingQuestion, trainable_lines

    key, directory = _model(config)
    check_trained_model(config)
    facts, odd = trainable_lines(
        TrainingQuestion(
            key=key,
            model_dir=Path(directory),
            seq_len=config.training.seq_len,
            longest=config.student.max_model_len,
            optimizer=config.training.optimizer,
            gradient_checkpointing=config.training.gradient_checkpointing,
            rows_per_forward=config.training.rows_per_forward or config.training.rows_per_step,
            dtype=config.training.dtype,
            num_ranks=num_ranks,
        )
    )
    yield f"training of {key}: {directory}", tuple(facts), tuple(odd)


def _model(config: Config) -> tuple[str, str]:
    """Key and directory of the model that training starts from."""
    if config.training.model is not None:
        return "training.model", config.training.model
    name = "tokenizer" if config.student.engine == "scripted" else "model"
    return f"student.{name}", engine_directory(config.student)


def _is_asked_for(config: Config) -> bool:
    """Whether somebody wrote a training section; a recorded config has all of its keys."""
    written = config.training.model_fields_set if "training" in config.model_fields_set else set()
    is_recorded = written == set(TrainingConfig.model_fields)
    return "training" in config.model_fields_set and (
        not is_recorded or config.training != TrainingConfig()
    )
