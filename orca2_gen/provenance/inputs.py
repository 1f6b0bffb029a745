"""The files that a run's rows depend on beside its config, read once by the driver.

Strategies and taxonomy travel as they were read. Tokenizers, weights and task files are too large
for that, so a worker reads them again and compares their digest with the driver's: a file that
changes during a run ends the run before rows made from it are committed under the old key.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.chat import PLAIN, Chat, Rendering, load_chat, rendered_texts
from orca2_gen.config.arguments import (
    engine_rendering,
    evaluated_room,
    held_out_judge_room,
    scored_engine,
    task_source,
)
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory, engine_models
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.preflight.check import EngineLines, check_config, check_names, engine_lines
from orca2_gen.preflight.judge import check_judge
from orca2_gen.prompts import conversation_roles
from orca2_gen.run_directory.digests import ChangedInput, model_digest, tokenizer_files_digest
from orca2_gen.strategies import Strategies, load_strategies
from orca2_gen.tasks.files import task_files
from orca2_gen.tasks.formats import format_digest, suffixes
from orca2_gen.tasks.soundness import check_sound
from orca2_gen.tasks.taxonomy import Branch, parse_taxonomy, taxonomy_bytes

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
    template_date: str | None = None
    """The day that chat templates take for today."""
    rendered: Mapping[tuple[str, Rendering], Mapping[str, Any]] = field(default_factory=dict)
    """(directory, rendering) -> `rendered_texts` of its template in the run's conversations, if
    they depend on more than the directory's files."""
    rendered_empty: Mapping[tuple[str, Rendering], Mapping[str, Any]] = field(default_factory=dict)
    """The same of a prompt without a system text, which only evaluation may ask."""


def read_inputs(config: Config) -> Inputs:
    """The Inputs of a config.

    Raises:
        ValueError: a file cannot be read or does not fit the config; one line says which key.
    """
    inputs = read_texts(config)  # first: a mistake in the rest should not wait for large files
    for task in config.every_task:
        check_sound(task_source(task))
    tasks: dict[tuple[str, str], str] = {
        (task.format, task.path): format_digest(task.format, Path(task.path))
        for task in config.every_task
    }
    inputs = dataclasses.replace(inputs, tasks=tasks)
    # No row depends on the weights of a model that is asked nothing.
    for asked in (scored_engine(config)[1], config.teacher, config.needed_judge):
        inputs = with_engine(inputs, asked) if asked is not None else inputs
    check_judge(config.needed_judge, *scored_engine(config), inputs.models)
    return inputs


def read_texts(config: Config) -> Inputs:
    """The Inputs of a config without digests of large files, if a run could make a row of them.

    Raises:
        ValueError: it could not, or a file cannot be read.
    """
    return asked_texts(config)[0]


def asked_texts(config: Config) -> tuple[Inputs, tuple[EngineLines, ...]]:
    """The Inputs of `read_texts`, and what its questions found out about each engine.

    Raises:
        ValueError: as `read_texts`.
    """
    strategies = load_strategies(config.strategies)
    check_names(config, strategies)
    body = taxonomy_bytes(config.taxonomy) if config.taxonomy else None
    check_judge(config.needed_judge, *scored_engine(config))
    engines = (config.student, config.teacher, config.judge_of_open or config.judge_of_held_out)
    inputs = Inputs(
        strategies=strategies,
        taxonomy=parse_taxonomy(body, str(config.taxonomy)) if body is not None else {},
        taxonomy_digest=hashlib.sha256(body).hexdigest() if body is not None else None,
        tokenizers={
            directory: tokenizer_files_digest(Path(directory))
            for directory in (engine_directory(engine) for engine in engines if engine is not None)
        },
        template_date=config.template_date,
        models={},
        tasks={},
    )
    found = check_config(config, strategies, functools.partial(_chat_of, inputs))
    for engine in engines:
        inputs = _with_rendered(inputs, engine) if engine is not None else inputs
    return inputs, found


def _chat_of(inputs: Inputs, directory: str, rendering: Rendering) -> Chat:
    return _first_chat(directory, inputs.tokenizers[directory], rendering)


@functools.lru_cache(maxsize=8)
def _first_chat(directory: str, digest: str, rendering: Rendering) -> Chat:
    """The Chat of a directory with this digest; it is not the one that makes rows."""
    return load_chat.__wrapped__(directory, rendering)


def _with_rendered(inputs: Inputs, engine: EngineConfig) -> Inputs:
    """The Inputs with what one more engine's template renders."""
    source = engine_directory(engine), engine_rendering(engine, inputs.template_date)
    chat = _chat_of(inputs, *source)
    asked = rendered_texts(chat, conversation_roles(inputs.strategies))
    empty = rendered_texts(chat, [("user",)])
    rendered = {**inputs.rendered, source: asked} if asked else inputs.rendered
    rendered_empty = {**inputs.rendered_empty, source: empty} if empty else inputs.rendered_empty
    return dataclasses.replace(inputs, rendered=rendered, rendered_empty=rendered_empty)


def with_engine(inputs: Inputs, engine: EngineConfig) -> Inputs:
    """The Inputs with the digests of one more engine's files; those that are known stay."""
    directory = engine_directory(engine)
    tokenizers, models = dict(inputs.tokenizers), dict(inputs.models)
    if directory not in tokenizers:
        tokenizers[directory] = tokenizer_files_digest(Path(directory))
    for weights in engine_models(engine):
        if weights not in models:
            models[weights] = model_digest(Path(weights))
    inputs = dataclasses.replace(inputs, tokenizers=tokenizers, models=models)
    return _with_rendered(inputs, engine)


def check_evaluated(config: Config, inputs: Inputs, engine: EngineConfig) -> None:
    """Checks that an engine could answer a held-out problem, and that a judge could read it.

    Raises:
        ValueError: it could not; one line that names its directory.
    """
    directory = engine_directory(engine)
    files = {**inputs.tokenizers, directory: tokenizer_files_digest(Path(directory))}
    chat = functools.partial(_chat_of, dataclasses.replace(inputs, tokenizers=files))
    room = dataclasses.replace(evaluated_room(config), tokenizer=directory)
    engine_lines(engine, room, inputs.strategies, chat)
    judge, judges = config.judge_of_held_out, held_out_judge_room(config, inputs.strategies)
    if judge is not None and judges is not None:
        engine_lines(judge, judges, inputs.strategies, chat)


def recorded_chat(inputs: Inputs, directory: str, rendering: Rendering = PLAIN) -> Chat:
    """The Chat of a directory whose files are still the recorded ones, as it rendered then.

    Raises:
        ChangedInput: they are not, or the template renders differently here.
    """
    chat = _chat(directory, inputs.tokenizers[directory], rendering)
    rendered = rendered_texts(chat, conversation_roles(inputs.strategies))
    if rendered != inputs.rendered.get((directory, rendering), {}):
        raise ChangedInput(
            f"{directory}: the chat template renders differently on this node than where the run "
            "was started; give both the same locale and the same transformers and jinja2"
        )
    return chat


@functools.lru_cache(maxsize=8)
def _chat(directory: str, digest: str, rendering: Rendering) -> Chat:
    load_chat.cache_clear()  # a process that outlives a run may hold an older version of the files
    # Before loading, since a broken file raises anything; after it, since loading takes a while.
    _check(directory, digest, tokenizer_files_digest(Path(directory)))
    chat = load_chat(directory, rendering)
    _check(directory, digest, tokenizer_files_digest(Path(directory)))
    return chat


def check_engine(inputs: Inputs, engine: EngineConfig) -> None:
    """Checks that the files that an engine loads are the recorded ones.

    Raises:
        ChangedInput: they are not.
    """
    directory = engine_directory(engine)
    found = tokenizer_files_digest(Path(directory))
    _check(directory, inputs.tokenizers[directory], found)
    for weights in engine_models(engine):
        try:
            found = model_digest(Path(weights))
        except (ValueError, OSError):  # removed, or only half copied
            found = ""
        _check(weights, inputs.models[weights], found)


class TaskWatch:
    """Tells whether the files of some tasks stay the recorded ones while they are read.

    It compares bytes once, at the start, and again where a size, a time of change or an inode is
    not what it was.
    """

    def __init__(self, inputs: Inputs, tasks: Iterable[TaskConfig]) -> None:
        """Compares the bytes.

        Raises:
            ChangedInput: they are not the recorded ones.
        """
        self._inputs, self._tasks = inputs, tuple(tasks)
        self._seen: dict[str, Stats | None] = {}
        self._due = 0.0
        self.check()

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def check(self) -> None:
        """Checks that the files are still the recorded ones.

        Raises:
            ChangedInput: one is not.
        """
        started = time.monotonic()
        for task in self._tasks:
            stats = _stats(task)
            if stats is None or stats != self._seen.get(task.path):
                recorded = self._inputs.tasks[task.format, task.path]
                _check(task.path, recorded, _digest(task))
            self._seen[task.path] = stats
        looked = time.monotonic()
        # On a slow file system a look may take long: a tenth of the time at most is spent on it.
        self._due = looked + max(CHECK_SECONDS, 10 * (looked - started))


Stats = list[tuple[str, int, int, int]]
"""Name, size, time of change and inode of each of a task's files."""


def _stats(task: TaskConfig) -> Stats | None:
    """The Stats of a task; None if a file is gone."""
    found = []
    try:
        for file in task_files(Path(task.path), suffixes(task.format)):
            stat = file.path.stat()
            found.append((file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    except (ValueError, OSError):
        return None
    return found


def _digest(task: TaskConfig) -> str:
    """The digest of a task's files; empty if one is gone."""
    try:
        return format_digest(task.format, Path(task.path))
    except (ValueError, OSError):
        return ""


def _check(path: str, recorded: str, found: str) -> None:
    if found != recorded:
        raise ChangedInput(
            f"{path} has changed since this run began (digest {recorded[:12]}, now "
            f"{found[:12] or 'unreadable'}); restore it and run the same command again, or begin "
            "another run_dir"
        )
