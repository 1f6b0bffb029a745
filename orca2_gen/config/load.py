"""One TOML file (or the `config.json` of a run) -> one checked, frozen `Config`.

Configuration stops at the border: `cli.py`, the jobs and the training program unpack it, and the
functions below them take the arguments they use. Paths are relative to the config file, except
`run_dir` and those that `--set` gives, which are relative to the working directory.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.config.secrecy import check_no_secrets, secret_in, shown
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

MOST_CONFIG_BYTES = 16 << 20
"""Bytes of a config file, or of a run's config.json, which holds the strategies' texts and a digest
of every task: those of 1,000 tasks have less than 1 MB."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The checked Config of a file; every path in it is absolute and exists on this machine.

    Args:
        path: a TOML file, or a `config.json` that a run recorded.
        overrides: `key.sub=value` pairs; a value that is not TOML is plain text; a list takes an
            index, as in `tasks.0.path=more.jsonl`.

    Raises:
        ValueError: one line that names the key, what was found and what to do.
    """
    config = read_config(path, overrides)
    _check_paths(config, Path(path))
    return config


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The checked Config of a file, whose paths need to exist only where the run will be.

    Raises:
        ValueError: as `load_config`.
    """
    file = Path(path)
    raw = _parsed(file)
    _resolve_paths(raw, file.resolve().parent)
    for override in overrides:
        _set(raw, override)
    try:
        check_no_secrets(raw)  # first: messages about values quote them
    except ValueError as error:
        raise ValueError(f"config {file}: {error}") from None
    _resolve_paths(raw, Path.cwd())  # those that --set gave; the others are absolute by now
    for engine in ("student", "teacher", "judge"):
        if isinstance(raw.get(engine), dict):
            raw[engine].setdefault("engine", "vllm")
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"config {file}: {_first_line(error)}") from error


def resolved(config: Config) -> dict[str, Any]:
    """The config as plain JSON values, as `config.json` records it."""
    return config.model_dump(mode="json")


def engine_directory(engine: EngineConfig) -> str:
    """The directory of an engine's tokenizer: its model, or the one a scripted engine borrows."""
    return engine.model if isinstance(engine, VLLMEngineConfig) else engine.tokenizer


def _parsed(file: Path) -> dict[str, Any]:
    is_json = file.suffix == ".json"
    language = "JSON" if is_json else "TOML"
    try:
        text = read_regular(file, MOST_CONFIG_BYTES).decode("utf-8")
        raw: Any = json.loads(text) if is_json else tomllib.loads(text)
    except (OSError, UnusableFile) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"config {file} cannot be read: {reason}; give the path of a TOML file"
        ) from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {file} is not {language}: {error}") from error
    found = raw.get("config", raw) if isinstance(raw, dict) else raw
    if not isinstance(found, dict):
        raise ValueError(f"config {file} holds no sections; give a config, or a run's config.json")
    return found


_PATH_KEYS = {("strategies",), ("taxonomy",), ("training", "model")}
_PATH_KEYS |= {
    (role, key) for role in ("student", "teacher", "judge") for key in ("model", "tokenizer")
}


def _resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    """Makes relative paths absolute in place, starting from a folder."""
    places: list[tuple[Any, str]] = [(raw, key[0]) for key in _PATH_KEYS if len(key) == 1]
    places += [(raw.get(key[0]), key[1]) for key in _PATH_KEYS if len(key) == 2]
    evaluation = raw.get("evaluation")
    for tasks in (
        raw.get("tasks"),
        evaluation.get("tasks") if isinstance(evaluation, dict) else None,
    ):
        places += [(task, "path") for task in (tasks if isinstance(tasks, list) else [])]
    for section, name in places:
        if isinstance(section, dict) and isinstance(section.get(name), str):
            # Links stay: only the machine on which the run will be knows where they lead.
            section[name] = os.path.abspath(folder / Path(section[name]).expanduser())


def _set(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key or secret_in(key):
        start = re.match(r"[\w.]*", key)
        assert start is not None
        known = "" if secret_in(key) else start[0]  # what follows may be a secret
        raise ValueError(
            f"--set {known!r} is not of the form key=value, e.g. selection.scored_problems=100"
        )
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    node: Any = raw
    for name in parents:
        if isinstance(node, dict):
            node = node.setdefault(name, {})
        elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            raise ValueError(f"--set {key}: there is no {name!r} to set a key in")
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ValueError(f"--set {key}: there is no {last!r} to set")


def _first_line(error: ValidationError) -> str:
    first, others = error.errors()[0], error.error_count() - 1
    key = ".".join(str(part) for part in first["loc"] if part not in ("vllm", "scripted"))
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; remove it or check its spelling{more}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; add it{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}{more}" if key else f"{message}{more}"
    found = "not shown" if "env" in first["loc"] else shown(first["input"])
    return f"key {key!r} is {found}: {message}{more}"


def _check_paths(config: Config, file: Path) -> None:
    """Checks that everything that a run opens exists before anything is started."""
    for place, tasks in (("tasks", config.tasks), ("evaluation.tasks", config.evaluation.tasks)):
        for index, task in enumerate(tasks):
            if not Path(task.path).exists():
                raise ValueError(
                    f"config {file}: {place}.{index}.path: nothing at {task.path}; "
                    f"give the task file, or a directory of them, e.g. "
                    f"--set {place}.{index}.path=FILE"
                )
    engines = {"student": config.student, "teacher": config.teacher, "judge": config.judge_of_open}
    for name, engine in engines.items():
        if engine is None:
            continue
        key = "model" if isinstance(engine, VLLMEngineConfig) else "tokenizer"
        if not Path(engine_directory(engine)).is_dir():
            raise ValueError(
                f"config {file}: {name}.{key}: no directory at {engine_directory(engine)}; models "
                "are never "
                f"downloaded, so put one there or name another with --set {name}.{key}=DIR"
            )
    if config.strategies is not None and not Path(config.strategies).is_file():
        raise ValueError(
            f"config {file}: strategies: no file at {config.strategies}; leave the key out for "
            "the built-in file"
        )
    if config.taxonomy is not None and not Path(config.taxonomy).is_file():
        raise ValueError(f"config {file}: taxonomy: no file at {config.taxonomy}; correct the path")
    if config.training.model is not None and not Path(config.training.model).is_dir():
        raise ValueError(
            f"config {file}: training.model: no directory at {config.training.model}; "
            "correct the path"
        )
