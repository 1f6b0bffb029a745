"""RUN/config.json: a run's config, its texts, and what each stage's key was made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from orca2_gen.provenance.about import About, Environment, carried_on
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.json_files import parsed, read_json
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import STAGES
from orca2_gen.strategies import Strategies, strategies_from_json, strategies_json

VERSIONS = {
    "acceptance": "ACCEPTANCE_VERSION",
    "blocks": "BLOCKS_VERSION",
    "calls": "CALLS_VERSION",
    "encoding": "ENCODING_VERSION",
    "ending": "ENDINGS_VERSION",
    "few_shot.text": "SHOTS_VERSION",
    "grader": "GRADER_VERSION",
    "judging": "JUDGING_VERSION",
    "readers": "READER_VERSION",
}
"""Determinant of a stage -> its constant, which only another version of this program changes."""


Difference = tuple[str, Any, Any]
"""Key, old value, new value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """The contents of config.json."""

    stages: dict[str, Any]
    """Stage -> its determinants."""
    strategies: Strategies | None
    """None if an older version, which kept no texts, started the run."""
    about: About | None = None
    """What else the dataset's card tells; None if only an older version opened the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Texts:
    """The JSON that `strategies_json` makes."""

    instructions: tuple[tuple[str, str], ...]
    cautious_message: str
    answer_sentence: bool
    further_calls: dict[str, tuple[str, ...]]
    special_instructions: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Body:
    """The JSON of a config.json; `read_config` reads its config."""

    stages: dict[str, dict[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)
    strategies: _Texts | None = None
    about: About | None = None


_BODY = TypeAdapter(_Body)


def read_recorded(run_dir: Path) -> Recorded:
    """The contents of a run's config.json.

    Raises:
        FileNotFoundError: the file is absent.
        DamagedFile: it holds something else.
    """
    path = run_dir / "config.json"
    try:
        value = read_json(path)
        body = parsed(path, value, _BODY)
        texts = value["strategies"] if body.strategies is not None else None
        strategies = strategies_from_json(texts) if texts is not None else None
    except DamagedFile as error:
        raise DamagedFile(f"{error}; restore it from a copy") from error
    if strategies is not None and (unknown := _unknown_strategies(strategies)):
        raise DamagedFile(
            f"{path}: strategies holds texts of {unknown}, which it has no instruction of; restore "
            "it from a copy"
        )
    return Recorded(stages=body.stages, strategies=strategies, about=body.about)


def _unknown_strategies(strategies: Strategies) -> str:
    named = {*strategies.further_calls, *(name for name, *_ in strategies.special_instructions)}
    return ", ".join(sorted(named - strategies.instructions.keys()))


def record_stages(
    ledger: Ledger,
    config: dict[str, Any],
    stages: dict[str, dict[str, Any]],
    keys: Mapping[str, str],
    strategies: Strategies,
    about: About | None = None,
) -> str:
    """Writes config.json, if the committed units were made from the same determinants.

    Returns a line about what the config states of licenses and a written dataset does not; empty if
    there is nothing to say.

    Args:
        ledger: the run directory's.
        config: the config as plain JSON.
        stages: stage -> its determinants; `keys` are the hashes of them.
        keys: stage -> its key.
        strategies: the texts, so that the run can be verified without the file they came from.
        about: what the card tells beside them, as the driver finds it now.

    Raises:
        ValueError: a stage with committed units would be made differently now; the message says
            how.
    """
    run_dir = ledger.run_dir
    path = run_dir / "config.json"
    try:
        recorded = read_recorded(run_dir)
        before = recorded.stages
    except FileNotFoundError:
        recorded, before = None, {}
    changed = [
        stage
        for stage in stages
        if any(receipt.stage_key != keys[stage] for receipt in ledger.committed(stage))
    ]
    if changed:
        found = [
            difference
            for stage in changed
            for difference in _differences(before.get(stage, {}), stages[stage], "")
        ]
        # The change may lie in an earlier stage without committed units.
        found = found or list(_differences(before, stages, ""))
        raise ValueError(_refusal(run_dir, changed[0], found))
    body = {
        "config": config,
        "stages": {**before, **stages},
        "strategies": strategies_json(strategies),
    }
    earlier, line = recorded.about if recorded is not None else None, ""
    if about is not None and earlier is not None:
        made = [stage for stage in stages if stage != "evaluation_problems"]
        same = not any(list(_differences(before.get(s), stages[s], s)) for s in made)
        about, line = _carried_on(run_dir, earlier, about, is_same_run=same)
    if (about := about or earlier) is not None:
        body["about"] = dataclasses.asdict(about)
    write_bytes(path, json.dumps(body, indent=2, sort_keys=True).encode())
    return line


def _carried_on(
    run_dir: Path, before: About, now: About, *, is_same_run: bool
) -> tuple[About, str]:
    """What to record, and a line about what a written dataset does not state; empty if none."""
    carried = carried_on(before, now, is_same_run=is_same_run)
    if not is_same_run or not (run_dir / "dataset" / "manifest.json").exists():
        return carried, ""
    # No row rests on a license, and a training may hold the dataset by its digest.
    kept = dataclasses.replace(before, versions=carried.versions)
    line = (
        f"{run_dir / 'dataset'} states the licenses and languages that it was written with; remove "
        "it and run again to state the config's"
    )
    return kept, "" if kept == carried else line


def versions_of(run_dir: Path | None) -> tuple[Environment, ...]:
    """The environments that engines of a run worked in, as far as it recorded them; none of None,
    which is no run.
    """
    if run_dir is None:
        return ()
    try:
        about = read_recorded(run_dir).about
    except (OSError, DamagedFile):
        return ()
    return about.versions if about is not None else ()


def record_versions(run_dir: Path, found: Iterable[Environment]) -> None:
    """Adds the environments that engines of the run work in to its config.json.

    Raises:
        FileNotFoundError: the run has none.
        DamagedFile: it holds something else.
    """
    path = run_dir / "config.json"
    about = read_recorded(run_dir).about
    if about is None:
        return
    versions = tuple(dict.fromkeys((*about.versions, *found)))
    if versions != about.versions:
        now = dataclasses.replace(about, versions=versions)
        body = read_json(path) | {"about": dataclasses.asdict(now)}
        write_bytes(path, json.dumps(body, indent=2, sort_keys=True).encode())


def _refusal(run_dir: Path, stage: str, found: Iterable[Difference]) -> str:
    """One line that says why a run cannot be resumed."""
    fork = f"another run_dir with --fork {run_dir}, which takes over what did not change"
    named = [_named(*difference) for difference in found]
    if named and all(name in VERSIONS.values() for name, _, _ in named):
        versions = ", ".join(dict.fromkeys(f"{name} {old} -> {new}" for name, old, new in named))
        return (
            f"{run_dir} holds {stage} made by another version of this program: {versions}; resume "
            f"it with the version that made it, or give {fork}"
        )
    return (
        f"{run_dir} holds {stage} made differently: "
        f"{_first_five(list(dict.fromkeys(_shown(*each) for each in named)))}; restore the "
        f"setting, or give {fork}"
    )


def _named(key: str, old: Any, new: Any) -> Difference:
    """A difference under the name of its constant, if it is one of this program's versions."""
    stage, _, rest = key.partition(".")
    inside = rest if stage in STAGES else key
    if inside in VERSIONS:
        return VERSIONS[inside], old, new
    if inside == "rooms.judge" and old and new and list(old[:-1]) == list(new[:-1]):
        return VERSIONS["judging"], old[-1], new[-1]  # it is the last in the judge's room
    return key, old, new


def differences(old: Any, new: Any) -> str:
    """The differences of two nested JSON values, as `key: old -> new`, at most five."""
    return _first_five([_shown(*found) for found in _differences(old, new, "")])


def _first_five(found: list[str]) -> str:
    return "; ".join(found[:5]) + (f" (and {len(found) - 5} more)" if len(found) > 5 else "")


def _differences(old: Any, new: Any, key: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(set(old) | set(new)):
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif json.loads(json.dumps(old)) != json.loads(json.dumps(new)):
        yield key, old, new


def _shown(key: str, old: Any, new: Any) -> str:
    return f"{key}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
