"""The questions that every command asks first, and what it prints of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca2_gen.commands.own_process import answers_of
from orca2_gen.config.load import engine_directory
from orca2_gen.config.paths import check_paths
from orca2_gen.config.schema import Config
from orca2_gen.config.training import TrainingConfig

if TYPE_CHECKING:
    from orca2_gen.provenance.inputs import Inputs

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
    for about, facts, odd in first_answers(config):
        if prints_facts:
            click.echo(about)
            for line in (*facts, *(f"odd: {line}" for line in odd)):
                click.echo(f"  {line}")
        else:
            _print_odd(about, odd)


def first_answers(config: Config) -> list[Lines]:
    """What `ask_first` asks, and the answers.

    Raises:
        ValueError: as `ask_first`.
    """
    lines: list[Lines]
    [lines] = answers_of(_asked, config)
    return lines


def asked_inputs(config: Config) -> Inputs:
    """The Inputs of a run, after all that `ask_first` asks; what is odd is printed on stderr.

    Raises:
        ValueError: as `ask_first` and `read_inputs`.
    """
    answers = answers_of(_asked_and_read, config)
    for about, _, odd in next(answers):  # before large files are read, which takes a while
        _print_odd(about, odd)
    inputs: Inputs
    [inputs] = answers
    return inputs


def inputs_alone(config: Config) -> Inputs:
    """The Inputs of a config, without a word about what is odd.

    Raises:
        ValueError: as `read_inputs`.
    """
    [inputs] = answers_of(_read, config)
    return inputs


def evaluated_inputs(config: Config, model: Path | None) -> Inputs:
    """The Inputs of a config and of a model to be evaluated; None is the student.

    Raises:
        ValueError: as `inputs_of`.
    """
    [inputs] = answers_of(_read_evaluated, config, model)
    return inputs


def ask_training(config: Config, num_ranks: int) -> None:
    """Asks whether the student can be trained, and prints what is odd on stderr.

    Raises:
        ValueError: it cannot; one line that names key, directory and remedy.
    """
    for about, _, odd in _trained(config, num_ranks):
        _print_odd(about, odd)


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


def _asked(config: Config) -> Iterator[list[Lines]]:
    """All lines at once: nothing is printed of what is refused further on."""
    from orca2_gen.provenance.inputs import asked_texts

    engines = [
        (f"{each.key}: {each.directory}", each.facts, each.odd) for each in asked_texts(config)[1]
    ]
    yield [*engines, *_training(config)]


def _asked_and_read(config: Config) -> Iterator[Any]:
    yield from _asked(config)
    yield from _read(config)


def _read(config: Config) -> Iterator[Inputs]:
    from orca2_gen.provenance.inputs import read_inputs

    yield read_inputs(config)


def _read_evaluated(config: Config, model: Path | None) -> Iterator[Inputs]:
    from ray_jobs.evaluation import inputs_of

    yield inputs_of(config, model)


def _print_odd(about: str, odd: tuple[str, ...]) -> None:
    for line in odd:
        click.echo(f"{about}: {line}", err=True)


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
    from train.plan import training_plan
    from train.trainable import TrainingQuestion, trainable_lines

    training_plan(config.training)  # refuses keys that do not go together
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
            lora_rank=config.training.lora_rank,
            moments_dtype=config.training.moments_dtype,
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
