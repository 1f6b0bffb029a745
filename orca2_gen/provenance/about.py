"""A config -> what a dataset's card tells of a run beside its stages' determinants.

Names, licenses and settings stand in RUN/config.json as the run's first driver found them: a model
that was moved since, a model card that is gone, or a command with other engines changes no card. A
license that the config states counts at once.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.secrecy import secret_in
from orca2_gen.config.task import STATED
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.provenance.model_licenses import model_license

Environment = tuple[tuple[str, str], ...]
"""Packages and their versions, where an engine worked."""
_PATH = re.compile(r"(?:^|(?<=[\s\"'=:,;(\[{]))(?:~|\.{0,2})/[^\s\"',;)\]}]+")
_HUB_CACHE = re.compile(r"models--(.+?)--(.+)")
_OF_ENGINE = {
    *("engine", "dtype", "quantization", "kv_cache_dtype", "max_model_len", "system"),
    *("template_arguments", "thinking_tokens", "thinking", "accuracy"),
}
_OF_RUN = {"run_seed", "template_date", "rows_per_unit", "scoring", "selection"}
_OF_RUN |= {"rationales", "erasure"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAbout:
    """The name and the license of a role's model."""

    name: str
    license: str
    """Empty if it is not stated."""
    license_from: str
    """config, model card, file, or empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAbout:
    """The name of a task's file, and what the config states of it."""

    name: str
    """The task's."""
    file: str
    sha256: str = ""
    license: str = ""
    language: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What config.json records for the card."""

    models: dict[str, ModelAbout]
    """By role."""
    tasks: dict[str, FileAbout]
    """By name."""
    held_out: tuple[FileAbout, ...]
    """Files of evaluation's tasks, and others that are held out."""
    settings: dict[str, Any]
    versions: tuple[Environment, ...] = ()


def about_run(config: Config, inputs: Inputs, versions: tuple[Environment, ...] = ()) -> About:
    """What a driver that begins with this config finds; `versions` are those of a run that it takes
    units over from.
    """
    engines = {"student": config.student, "teacher": config.teacher, "judge": config.judge_of_open}
    return About(
        models={role: _model(engine) for role, engine in engines.items() if engine is not None},
        tasks={
            task.name: FileAbout(
                name=task.name,
                file=name_of(task.path),
                license=task.license or "",
                language=task.language or "",
            )
            for task in config.tasks
        },
        held_out=tuple(
            FileAbout(
                name=task.name,
                file=name_of(task.path),
                sha256=inputs.tasks.get((task.format, task.path), ""),
            )
            for task in config.held_out
        ),
        settings=_settings(config, engines),
        versions=versions,
    )


def carried_on(before: About, now: About, *, is_same_run: bool) -> About:
    """What a later driver records: as before but for what the config states of licenses, if no
    row of the run comes out otherwise.
    """
    versions = tuple(dict.fromkeys((*before.versions, *now.versions)))
    if not is_same_run:
        return dataclasses.replace(now, versions=versions)
    models = {
        role: now.models[role] if _is_stated(role, before, now) else each
        for role, each in before.models.items()
    }
    tasks = {
        name: dataclasses.replace(
            each, license=now.tasks[name].license, language=now.tasks[name].language
        )
        for name, each in before.tasks.items()
        if name in now.tasks
    }
    return dataclasses.replace(before, models=models, tasks=tasks, versions=versions)


def _is_stated(role: str, before: About, now: About) -> bool:
    """Whether the config states a license of the role's model, or no longer does."""
    found = now.models.get(role)
    return found is not None and "config" in (before.models[role].license_from, found.license_from)


def _model(engine: EngineConfig) -> ModelAbout:
    directory = Path(engine_directory(engine))
    license, source = engine.license, "config"
    if license is None:
        license, source = model_license(directory)
    return ModelAbout(name=model_name(directory), license=license, license_from=source)


def model_name(directory: Path) -> str:
    """The last part of a model's path; in a hub's cache, the name that the hub has for it."""
    if directory.parent.name == "snapshots" and (
        found := _HUB_CACHE.fullmatch(directory.parent.parent.name)
    ):
        return f"{found[1]}/{found[2]}"
    return name_of(str(directory))


def name_of(path: str) -> str:
    """The last part of a path."""
    return Path(path).name or "root"


def _settings(config: Config, engines: dict[str, EngineConfig | None]) -> dict[str, Any]:
    """The settings that determine rows, without paths."""
    found = config.model_dump(mode="json", include=_OF_RUN)
    del found["rationales"]["keep_refused"]  # whatever it says, the rows are the same
    for role, engine in engines.items():
        if engine is not None:
            found[role] = engine.model_dump(mode="json", include=_OF_ENGINE)
    if config.judge_of_open is not None:
        found["judging"] = config.judging.model_dump(mode="json")
    if config.decontaminate is not None:
        found["decontaminate"] = config.decontaminate.model_dump(mode="json", exclude={"files"})
    found["tasks"] = [
        task.model_dump(mode="json", exclude={"path", *STATED}) for task in config.tasks
    ]
    found["strategies"] = "the package's own" if config.strategies is None else "a file"
    settings: dict[str, Any] = _without_paths(_without_none(found))
    return settings


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


def _without_paths(value: Any) -> Any:
    """The value, in whose texts a path of a machine, or what reads like a secret, is not shown."""
    if isinstance(value, dict):
        return {_without_paths(name): _without_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(each) for each in value]
    if not isinstance(value, str):
        return value
    return "(not shown)" if secret_in(value) else _PATH.sub("(a path)", value)
