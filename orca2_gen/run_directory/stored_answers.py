"""Another run's answers to problems that are still open here: `orca2 run` asks only for the rest.

    RUN/regraded/UNIT.arrow   the teacher's stored answers to a unit's problems, as they were
    RUN/regraded/UNIT.json    size and digest of that file, and how many problems are open

They are a saving and no commit: no line of the ledger names them, and a unit whose files are lost,
damaged or of another key is asked for whole. What becomes of an answer is decided as if it had just
come.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orca2_gen.records import Rationale
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, check_file, write_records
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.json_files import parsed, read_json

FOLDER = "regraded"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswers:
    """The contents of RUN/regraded/UNIT.json."""

    stage_key: str
    """Key of the unit that the answers belong to."""
    file: FileEntry
    num_open: int
    """The unit's problems to which an answer is missing."""
    engine: str = ""
    """The engine that generated the answers and its version; empty if their files do not say."""


_STORED = TypeAdapter(StoredAnswers)


def write_answers(
    run_dir: Path,
    unit: str,
    stage_key: str,
    rows: Sequence[Rationale],
    num_open: int,
    engine: str = "",
) -> None:
    """Writes the stored answers to a unit's problems, durably."""
    entry = write_records(run_dir, f"{FOLDER}/{unit}.arrow", rows, Rationale)
    stored = StoredAnswers(stage_key=stage_key, file=entry, num_open=num_open, engine=engine)
    body = json.dumps(dataclasses.asdict(stored), indent=2, sort_keys=True) + "\n"
    write_bytes(run_dir / FOLDER / f"{unit}.json", body.encode())


def read_answers(run_dir: Path, unit: str, stage_key: str) -> StoredAnswers | None:
    """The stored answers to a unit's problems; None if there are none for this key.

    Raises:
        DamagedFile: there are some, and they are not what was written.
    """
    path = run_dir / FOLDER / f"{unit}.json"
    try:
        stored = parsed(path, read_json(path), _STORED)
    except FileNotFoundError:
        return None
    if stored.stage_key != stage_key:
        return None
    if stored.file.path != f"{FOLDER}/{unit}.arrow":
        raise DamagedFile(f"{path} names another file, {stored.file.path[:60]!r}")
    check_file(run_dir, stored.file)
    return stored
