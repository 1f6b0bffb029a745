"""One TOML file (or the `config.json` of a run) -> one checked, frozen `Config`.

Configuration stops at the border: `cli.py`, the jobs and the training program unpack it, and the
functions below them take the arguments they use. Paths are relative to the config file, except
`run_dir` and those that `--set` gives, which are relative to the working directory.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orca2_gen.config.decontaminate import DecontaminateConfig
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.engine_arguments import argument_models
from orca2_gen.config.paths import check_paths, resolve_paths
from orca2_gen.config.schema import Config
from orca2_gen.config.secrecy import check_no_secrets, secret_in
from orca2_gen.config.wording import first_line
from orca2_gen.mistakes.spelling import hint
from orca2_gen.mistakes.toml_faults import toml_fault
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular
from orca2_gen.strategies import CAUTIOUS, EMPTY, load_strategies

MOST_CONFIG_BYTES = 16 << 20
"""Bytes of a config file, or of a run's config.json, which holds the strategies' texts and a digest
of every task: those of 1,000 tasks have less than 1 MB."""


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, source: Path | None = None
) -> Config:
    """The checked Config of a file; every path in it is absolute and exists on this machine.

    It has a template_date: its own, else the one that `source` or its run directory recorded, else
    today. So it has a scoring.ask_again and a section decontaminate; a record without one is of a
    version that never asked and rejected no copies.

    Args:
        path: a TOML file, or a `config.json` that a run recorded.
        overrides: `key.sub=value` pairs; a value that is not TOML is plain text; a list takes an
            index, as in `tasks.0.path=more.jsonl`.
        source: directory of the run that this one takes its first stages from, or continues.

    Raises:
        ValueError: one line that names the key, what was found and what to do.
    """
    config = read_config(path, overrides)
    try:
        check_paths(config)
        _check_accuracies(config)
    except ValueError as error:
        raise ValueError(f"config {path}: {error}") from error
    config = _decontaminating(_asking(config, Path(path), source), Path(path), source)
    return _dated(config, source)


def _asking(config: Config, path: Path, source: Path | None) -> Config:
    if config.scoring.ask_again is not None:
        return config
    recorded = _run_of(config, path, source)
    ask_again = "answer" if recorded is None else recorded.scoring.ask_again or "none"
    scoring = config.scoring.model_copy(update={"ask_again": ask_again})
    return config.model_copy(update={"scoring": scoring})


def _decontaminating(config: Config, path: Path, source: Path | None) -> Config:
    if config.decontaminate is not None:
        return config
    recorded = _run_of(config, path, source)
    found = DecontaminateConfig() if recorded is None else recorded.decontaminate
    return config.model_copy(update={"decontaminate": found})


def _run_of(config: Config, path: Path, source: Path | None) -> Config | None:
    """The config of the run that this one takes its stages from, or continues; None if it is new.

    That of a run that is forked or regraded may be the very file that is loaded.
    """
    runs = [*([] if source is None else [source]), Path(config.run_dir)]
    records = [run_dir / "config.json" for run_dir in runs]
    if path.suffix == ".json":
        records.insert(len(runs) - 1, path)
    return next(filter(None, map(_recorded, records)), None)


def _dated(config: Config, source: Path | None) -> Config:
    if config.template_date is not None:
        return config
    runs = [*([] if source is None else [source]), Path(config.run_dir)]
    recorded = next(filter(None, map(recorded_template_date, runs)), None)
    today = datetime.date.today().isoformat()
    return config.model_copy(update={"template_date": recorded or today})


def recorded_template_date(run_dir: Path) -> str | None:
    """The template_date that a run recorded; None if there is none, or no run."""
    recorded = _recorded(run_dir / "config.json")
    return None if recorded is None else recorded.template_date


def _recorded(file: Path) -> Config | None:
    """The config that a run recorded; None if it cannot be read."""
    try:
        return read_config(file)
    except ValueError:  # opening the run says what is wrong with the file
        return None


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The checked Config of a file, whose paths need to exist only where the run will be.

    Raises:
        ValueError: as `load_config`.
    """
    file = Path(path)
    raw = _parsed(file)
    folder = Path(os.path.realpath(file)).parent
    try:
        check_no_secrets(raw)  # first: messages about values quote them
        resolve_paths(raw, folder)
        keys = [_set(raw, override) for override in overrides]
        check_no_secrets(raw)
        resolve_paths(raw, Path.cwd())  # those that --set gave; the others are absolute by now
    except ValueError as error:
        is_of_set = str(error).startswith("--set")
        raise ValueError(f"{error}" if is_of_set else f"config {file}: {error}") from None
    for engine in ("student", "teacher", "judge"):
        if isinstance(raw.get(engine), dict):
            raw[engine].setdefault("engine", "vllm")
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise _refusal(file, error, keys) from error


def _refusal(file: Path, error: ValidationError, keys: Sequence[str]) -> ValueError:
    """The error in one line; it blames --set for the value of a key that --set gave."""
    key, line = first_line(error, Config)
    is_set = any(f"{key}.".startswith(f"{each}.") for each in keys)
    return ValueError(f"{'--set' if is_set else f'config {file}'}: {line}")


def resolved(config: Config) -> dict[str, Any]:
    """The config as plain JSON values, as `config.json` records it."""
    return config.model_dump(mode="json")


def engine_directory(engine: EngineConfig) -> str:
    """The directory of an engine's tokenizer: its model, or the one a scripted engine borrows."""
    return engine.model if isinstance(engine, VLLMEngineConfig) else engine.tokenizer


def engine_models(engine: EngineConfig) -> list[str]:
    """The directories of all weights that an engine loads: its model's first, then a draft's."""
    if not isinstance(engine, VLLMEngineConfig):
        return []
    drafts = (directory for _, directory in argument_models(engine.engine_arguments))
    return list(dict.fromkeys((engine.model, *drafts)))


def _check_accuracies(config: Config) -> None:
    known = {*load_strategies(config.strategies).names, CAUTIOUS, EMPTY}
    for role in ("student", "teacher", "judge"):
        accuracy = getattr(getattr(config, role), "accuracy", {})
        for name in accuracy:
            if name not in known:
                raise ValueError(
                    f"{role}.accuracy: {name!r} is no strategy; {hint(name, sorted(known))}"
                )


def _parsed(file: Path) -> dict[str, Any]:
    is_json = file.suffix == ".json"
    body = b""
    try:
        body = read_regular(file, MOST_CONFIG_BYTES)
        text = body.decode("utf-8-sig")  # some editors begin a file with a mark of the encoding
        raw: Any = json.loads(text) if is_json else tomllib.loads(text)
    except FileNotFoundError:
        raise ValueError(
            f"config {file} cannot be read: no file there; give the path of a TOML file"
        ) from None
    except UnusableFile as error:
        raise ValueError(f"config {error}; give the path of a TOML file") from error
    except (ValueError, RecursionError) as error:
        if is_json:
            where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            reason = f"is no longer JSON{where}; restore it from a copy of the run"
        else:
            reason = f"is not TOML: {toml_fault(error, body)}"
        raise ValueError(f"config {file} {reason}") from error
    found = raw.get("config", raw) if isinstance(raw, dict) else raw
    if not isinstance(found, dict):
        raise ValueError(f"config {file} holds no sections; give a config, or a run's config.json")
    return found


def _set(raw: dict[str, Any], override: str) -> str:
    """The key of a `key=value` pair, after its value is set in a config."""
    key, equals, text = override.partition("=")
    if not equals or not key or secret_in(key):
        start = re.match(r"[\w.]*", key)
        assert start is not None
        known = "" if secret_in(key) else start[0]  # what follows may be a secret
        found = f" {known!r} has no value" if known else ""
        raise ValueError(
            f"--set{found}: expected key=value, e.g. --set selection.scored_problems=100"
        )
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    except ValueError:  # a number of more digits than Python reads
        raise ValueError(f"--set {key}: the number has too many digits; shorten it") from None
    *parents, last = key.split(".")
    node: Any = raw
    for depth, name in enumerate(parents):
        if isinstance(node, dict):
            node = node.setdefault(name, {})
        else:
            node = node[_index(key, depth, node)]
    if isinstance(node, dict):
        node[last] = value
    else:
        node[_index(key, len(parents), node)] = value
    return key


def _index(key: str, depth: int, node: Any) -> int:
    """The part of a --set key at some depth as an index of the list that is there."""
    parts = key.split(".")
    above, name = ".".join(parts[:depth]), parts[depth]
    if not isinstance(node, list):
        raise ValueError(f"--set {key}: {above} is a value and holds no keys; set {above} itself")
    if not (name.isascii() and name.isdigit() and int(name[:9]) < len(node)):
        expected = f"from 0 to {len(node) - 1}" if node else f"none, since {above} is empty"
        raise ValueError(
            f"--set {key}: {above} is a list of {len(node)}; expected an index, {expected}, in "
            f"place of {name[:100]!r}"
        )
    return int(name)
