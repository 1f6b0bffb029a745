"""The paths of a config: made absolute, and asked whether a run can use what stands there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.engine_arguments import argument_models, path_places
from orca2_gen.config.schema import Config
from orca2_gen.run_directory.regular_files import kind_of
from orca2_gen.run_directory.stored_answers import FOLDER as STORED
from orca2_gen.run_directory.units import STAGES
from orca2_gen.run_directory.unlisted import SET_ASIDE

_ROLES = ("student", "teacher", "judge")
_KEYS: list[tuple[str, ...]] = [("strategies",), ("taxonomy",)]
_KEYS += [("training", key) for key in ("model", "dataset", "eval_dataset")]
_KEYS += [(role, key) for role in _ROLES for key in ("model", "tokenizer")]
_KEPT_RELATIVE = [("run_dir",), ("training", "output")]
"""Keys that count from the working directory, whichever that is when they are used."""
# `s3://...` is a relative path for the system, which would make a directory of that name.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_WRITTEN = (*STAGES, "rejections", "dataset", STORED, SET_ASIDE)
"""Folders of a run directory that a run writes."""


def resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    """Makes relative paths absolute in place, starting from a folder; `~` is the home directory.

    Raises:
        ValueError: a path is an address, or no path; one line names the key.
    """
    for key, section, name in _places(raw):
        text = section[name]
        if not text:
            continue  # refused with the other values
        if _ADDRESS.match(text):
            raise ValueError(
                f"{key} is {_short(text)}: an address; expected a path on storage that every node "
                "sees, so mount it there or copy the files"
            )
        if "\0" in text or not text.strip():
            raise _no_path(key, text)
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            raise _no_path(key, text) from None
        is_kept = tuple(key.split(".")) in _KEPT_RELATIVE
        # Links stay: only the machine on which the run will be knows where they lead.
        section[name] = str(path) if is_kept else os.path.abspath(folder / path)


def _no_path(key: str, text: str) -> ValueError:
    """The error of a text that no path is made of."""
    if not text.strip():
        return ValueError(f"{key} is blank; expected a path")
    if "\0" in text:
        return ValueError(f"{key} is {_short(text)}: no path; remove the character \\0")
    return ValueError(
        f"{key} is {_short(text)}: no user of this name has a home directory here; expected a path "
        "from / or beside the config"
    )


def _places(raw: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(key, its section, its name there) of every path that a config holds as text."""
    found: list[tuple[str, Any, str]] = []
    for key in (*_KEYS, *_KEPT_RELATIVE):
        section = raw if len(key) == 1 else raw.get(key[0])
        found.append((".".join(key), section, key[-1]))
    places = [("tasks", raw.get("tasks"))]
    for above, below in (("evaluation", "tasks"), ("decontaminate", "files")):
        held_out = raw.get(above)
        listed = held_out.get(below) if isinstance(held_out, dict) else None
        places.append((f"{above}.{below}", listed))
    training = raw.get("training")
    stages = training.get("stages") if isinstance(training, dict) else None
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        listed = stage.get("datasets") if isinstance(stage, dict) else None
        places.append((f"training.stages.{index}.datasets", listed))
    for at, tasks in places:
        for index, task in enumerate(tasks if isinstance(tasks, list) else []):
            found.append((f"{at}.{index}.path", task, "path"))
    for role in _ROLES:
        engine = raw.get(role)
        arguments = engine.get("engine_arguments") if isinstance(engine, dict) else None
        for place, table, name in path_places(arguments):
            yield f"{role}.engine_arguments.{place}", table, name
    for name, section, last in found:
        if isinstance(section, dict) and isinstance(section.get(last), str):
            yield name, section, last


def check_paths(config: Config) -> None:
    """Checks that everything that a run opens exists, and that it writes over none of it.

    Raises:
        ValueError: one line that names the key.
    """
    for key, path in task_paths(config):
        _check_file(key, path, "the task file, or a directory of them", is_folder_fine=True)
    for key, path in _model_paths(config):
        if not os.path.isdir(path):
            raise ValueError(
                f"{key}: no directory at {_short(path)}; models are never downloaded, so put one "
                f"there or name another with --set {key}=DIR"
            )
        if not os.access(path, os.R_OK | os.X_OK):
            raise ValueError(f"{key}: {_short(path)} may not be read; change its permissions")
    if config.strategies is not None:
        _check_file(
            "strategies",
            config.strategies,
            "a strategies file, or leave the key out for the built-in one",
        )
    if config.taxonomy is not None:
        _check_file("taxonomy", config.taxonomy, "a file with the categories of tasks")
    _check_run_dir(config)
    if config.training.output is not None:
        _check_output(config, os.path.realpath(config.training.output))


def task_paths(config: Config) -> list[tuple[str, str]]:
    """(key, path) of every task, those of evaluation and other held-out files last."""
    places = (
        ("tasks", config.tasks),
        ("evaluation.tasks", config.evaluation.tasks),
        ("decontaminate.files", config.held_out_files),
    )
    return [(f"{at}.{n}.path", task.path) for at, tasks in places for n, task in enumerate(tasks)]


def _model_paths(config: Config) -> Iterator[tuple[str, str]]:
    judge = config.judge_of_open or config.judge_of_held_out
    engines = zip(_ROLES, (config.student, config.teacher, judge), strict=True)
    for name, engine in engines:
        if isinstance(engine, VLLMEngineConfig):
            yield f"{name}.model", engine.model
            for key, directory in argument_models(engine.engine_arguments):
                yield f"{name}.engine_arguments.{key}", directory
        elif engine is not None:
            yield f"{name}.tokenizer", engine.tokenizer
    if config.training.model is not None:
        yield "training.model", config.training.model


def _check_file(key: str, path: str, wanted: str, *, is_folder_fine: bool = False) -> None:
    hint = f"give {wanted}, e.g. --set {key}=FILE"
    if not os.path.exists(path):
        raise ValueError(f"{key}: nothing at {_short(path)}; {hint}")
    is_folder = os.path.isdir(path)
    if is_folder and not is_folder_fine:
        raise ValueError(f"{key}: {_short(path)} is a directory, expected a file; {hint}")
    if not is_folder and not os.path.isfile(path):
        raise ValueError(f"{key}: {_short(path)} is {kind_of(path)}, expected a file; {hint}")
    if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        raise ValueError(f"{key}: {_short(path)} may not be read; change its permissions")


def _check_run_dir(config: Config) -> None:
    run_dir = os.path.realpath(config.run_dir)
    written = [os.path.join(run_dir, folder) for folder in _WRITTEN]
    for key, path in (*task_paths(config), *_model_paths(config)):
        real = os.path.realpath(path)
        if _is_inside(run_dir, real):
            where = f"{_short(config.run_dir)} lies inside {key}, "
            raise ValueError(
                f"run_dir {f'and {key} are the same, ' if run_dir == real else where}"
                f"{_short(path)}; give the run a directory of its own, e.g. runs/one"
            )
        if any(_is_inside(real, folder) for folder in written):
            raise ValueError(
                f"{key}: {_short(path)} lies in run_dir, where the run itself writes; give "
                "another run_dir, or copy it elsewhere"
            )


def _check_output(config: Config, output: str) -> None:
    run_dir = os.path.realpath(config.run_dir)
    for key, path in (*task_paths(config), *_model_paths(config), ("run_dir", config.run_dir)):
        real = os.path.realpath(path)
        is_in_run = key == "run_dir" and output != run_dir  # RUN/student is the usual place
        if output == real:
            raise ValueError(
                f"training.output and {key} are the same, {_short(path)}; give the student a "
                "directory of its own, e.g. student in run_dir"
            )
        is_over = _is_inside(real, output)
        if is_over or (_is_inside(output, real) and not is_in_run):
            where = "holds" if is_over else "lies inside"
            raise ValueError(
                f"training.output {_short(output)} {where} {key}, {_short(path)}; give the student "
                "a directory of its own, e.g. student in run_dir"
            )
    if any(_is_inside(output, os.path.join(run_dir, folder)) for folder in _WRITTEN):
        raise ValueError(
            f"training.output {_short(output)} lies where the run itself writes; give another, "
            "e.g. student-2 in run_dir"
        )


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _short(path: str) -> str:
    shown = path if path.isprintable() else ascii(path)
    return shown if len(shown) <= 300 else f"{shown[:200]}... ({len(shown)} characters)"
