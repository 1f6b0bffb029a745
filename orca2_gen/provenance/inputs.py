"""The files that a run's rows depend on beside its config, read once by the driver.

Strategies and taxonomy travel as they were read. Tokenizers, weights and task files are too large
for that, so a worker reads them again and compares their digest with the driver's: a file that
changes during a run ends the run before rows made from it are committed under the old key.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.chat import Chat, load_chat
from orca2_gen.config.arguments import scored_roles
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.run_directory.digests import (
    ChangedInput,
    file_digest,
    model_digest,
    tokenizer_files_digest,
)
from orca2_gen.strategies import Strategies, load_strategies
from orca2_gen.tasks.files import task_files
from orca2_gen.tasks.formats import format_digest, suffixes
from orca2_gen.tasks.taxonomy import Branch, load_taxonomy

CHECK_SECONDS = 5.0
"""Seconds between two checks of a task's files while they are read; a tree may hold 28,000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The contents of files that determine a run's rows beside its config."""

    strategies: Strategies
    taxonomy: Mapping[str, Branch]
    taxonomy_digest: str | None
    """SHA-256 of the taxonomy file; None if there is none."""
    tokenizers: Mapping[str, str]
    """Directory -> digest of its tokenizer files."""
    models: Mapping[str, str]
    """Directory -> digest of its weights."""
    tasks: Mapping[tuple[str, str], str]
    """(format, path) -> digest of a task's files."""


def read_inputs(config: Config) -> Inputs:
    """The Inputs of a config.

    Raises:
        ValueError: a file cannot be read or does not fit the config; one line says which key.
        ChangedInput: a file changes while it is read.
    """
    strategies = fitting_strategies(config)
    taxonomy_digest = file_digest(Path(config.taxonomy)) if config.taxonomy else None
    taxonomy = dict(load_taxonomy(config.taxonomy))
    if config.taxonomy:
        _check(config.taxonomy, taxonomy_digest, file_digest(Path(config.taxonomy)))
    inputs = Inputs(
        strategies=strategies,
        taxonomy=taxonomy,
        taxonomy_digest=taxonomy_digest,
        tokenizers={},
        models={},
        tasks={
            (task.format, task.path): format_digest(task.format, Path(task.path))
            for task in (*config.tasks, *config.evaluation.tasks)
        },
    )
    for engine in (config.student, config.teacher, config.judge_of_open):
        inputs = including(inputs, engine) if engine is not None else inputs
    _check_judge(config, inputs)
    return inputs


def fitting_strategies(config: Config) -> Strategies:
    """The Strategies of a config, which hold every strategy that it names.

    Raises:
        ValueError: they do not, or the file cannot be read.
    """
    strategies = load_strategies(config.strategies)
    chosen = {"selection.none_solved": config.selection.none_solved}
    if config.selection.policy.startswith("fixed:"):
        chosen = {"selection.policy": config.selection.policy.removeprefix("fixed:")}
    for key, name in chosen.items():
        if name not in strategies.names:
            raise ValueError(
                f"{key}: the strategies file has no {name!r}; expected one of "
                f"{', '.join(strategies.names)}"
            )
    return strategies


def including(inputs: Inputs, engine: EngineConfig) -> Inputs:
    """The Inputs with the digests of one more engine's files."""
    directory = engine_directory(engine)
    tokenizers = {**inputs.tokenizers, directory: tokenizer_files_digest(Path(directory))}
    models = dict(inputs.models)
    if isinstance(engine, VLLMEngineConfig) and directory not in models:
        models[directory] = model_digest(Path(directory))
    return dataclasses.replace(inputs, tokenizers=tokenizers, models=models)


def recorded_chat(inputs: Inputs, directory: str) -> Chat:
    """The Chat of a directory whose files are still the recorded ones.

    Raises:
        ChangedInput: they are not.
    """
    return _chat(directory, inputs.tokenizers[directory])


@functools.lru_cache(maxsize=8)
def _chat(directory: str, digest: str) -> Chat:
    load_chat.cache_clear()  # a process that outlives a run may hold the Chat of older files
    chat = load_chat(directory)
    # Checked after loading, so that a change while they are loaded is found too.
    _check(directory, digest, tokenizer_files_digest(Path(directory)))
    return chat


def check_model(inputs: Inputs, engine: EngineConfig) -> None:
    """Checks that an engine's weights are the recorded ones; a scripted engine has none.

    Raises:
        ChangedInput: they are not.
    """
    if isinstance(engine, VLLMEngineConfig):
        _check(engine.model, inputs.models[engine.model], model_digest(Path(engine.model)))


class TaskWatch:
    """A check that the files of some tasks stay the recorded ones while they are read.

    It compares bytes once, at the start, and after that sizes, times of change and inodes.
    """

    def __init__(self, inputs: Inputs, tasks: Iterable[TaskConfig]) -> None:
        """Compares the bytes.

        Raises:
            ChangedInput: they are not the recorded ones.
        """
        self._tasks = tuple(tasks)
        self._seen = self._look()
        for task in self._tasks:
            found = format_digest(task.format, Path(task.path))
            _check(task.path, inputs.tasks[task.format, task.path], found)
        self._due = time.monotonic() + CHECK_SECONDS

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def check(self) -> None:
        """Checks that nothing has changed since the start.

        Raises:
            ChangedInput: a file has changed.
        """
        for path, seen in self._look().items():
            if seen != self._seen[path]:
                raise ChangedInput(_changed(path, "", ""))
        self._due = time.monotonic() + CHECK_SECONDS

    def _look(self) -> dict[str, list[tuple[str, int, int, int]]]:
        return {task.path: _stats(task) for task in self._tasks}


def _stats(task: TaskConfig) -> list[tuple[str, int, int, int]]:
    """Name, size, time of change and inode of each of a task's files."""
    found = []
    for file in task_files(Path(task.path), suffixes(task.format)):
        stat = file.path.stat()
        found.append((file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return found


def _check(path: str, recorded: str | None, found: str) -> None:
    if found != recorded:
        raise ChangedInput(_changed(path, recorded or "", found))


def _changed(path: str, recorded: str, found: str) -> str:
    digests = f" (digest {recorded[:12]}, now {found[:12]})" if recorded else ""
    return (
        f"{path} has changed since this run began{digests}; restore it and run the same command "
        "again, or begin another run_dir"
    )


def _check_judge(config: Config, inputs: Inputs) -> None:
    """Checks that the judge is not the model that it judges; a scripted engine has no model."""
    [name] = scored_roles(config) or {"student"}
    judge, scored = config.needed_judge, getattr(config, name)
    if not isinstance(judge, VLLMEngineConfig) or not isinstance(scored, VLLMEngineConfig):
        return
    places = Path(judge.model).resolve(), Path(scored.model).resolve()
    if places[0] == places[1] or inputs.models[judge.model] == inputs.models[scored.model]:
        raise ValueError(
            f"judge.model: {judge.model} is the {name}'s model, whose answers it would judge; give "
            "another with --set judge.model=DIR"
        )
