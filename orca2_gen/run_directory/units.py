"""One unit, the thing that is committed: its name, its files and the receipt for them.

    RUN/<stage>/UNIT.aATTEMPT-DRIVER.arrow              the accepted rows
    RUN/rejections/<stage>-UNIT.aATTEMPT-DRIVER.arrow   the rejected ones, if there are any
    RUN/rationales/UNIT.aATTEMPT-DRIVER.refused.arrow   a teacher's refused answers, if it kept any

Each file says in its Arrow metadata which unit it belongs to and what its rows are, so that
`orca2 recover` can rebuild a lost ledger. Attempt and driver stand in the name alone: whoever makes
a unit writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import FileEntry, R, read_records, rows_digest, write_table
from orca2_gen.run_directory.record_tables import to_table

STAGES = (
    "problems",
    "scores",
    "judgements",
    "selections",
    "rationales",
    "examples",
    "evaluation_problems",
    "evaluation",
    "evaluation_judgements",
)
"""The stages that commit units, in order; each one's files lie in a directory of its name."""

EVALUATIONS = ("evaluation", "evaluation_judgements")
"""The stages whose units each hold one model's answers to a unit of held-out problems."""
JUDGEMENTS = {"judgements": "scores", "evaluation_judgements": "evaluation"}
"""Stage of a judge's verdicts -> the stage of the answers, whose units have the same names."""

REFUSED = ".refused.arrow"
"""End of the name of a file of refused answers."""
PROBLEMS = "problems"
"""Count of the problems behind a unit of rationales; absent where each has one row."""
METADATA_KEY = b"orca2_gen.unit"
CHECKSUM_KEY = b"orca2_gen.unit.sha256"
"""Key of the SHA-256 of what stands under METADATA_KEY; the first files that had that had none."""
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{6,18})", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitName:
    """The identity of a unit of a stage, and the attempt at it."""

    stage: str
    stage_key: str
    unit: str
    """Name made of task and range, e.g. `gsm8k-000003`."""
    group: str = ""
    """The selection group of all its rows."""
    attempt: int = 1
    driver: str = "0"
    """Hexadecimal id of the driver that asks: a late write for a driver long dead must not hit a
    committed file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The result of a finished unit, which an actor returns and a ledger line holds."""

    stage: str
    stage_key: str
    unit: str
    attempt: int
    files: tuple[FileEntry, ...]
    """The accepted rows' file first, then the rejections' file, then that of refused answers; the
    last two only if they have rows."""
    counts: dict[str, int]
    """`input`, `accepted`, `rejected`, and token counts where an engine worked. `input` counts
    the other two together, so several rationales of a problem count as often."""
    group: str = ""
    """The selection group of all its rows, so that the driver need not read them."""

    @property
    def taken_in(self) -> int:
        """The rows of the stage before that the unit was made of; a problem may have several
        rationales.
        """
        has_several = self.stage == "rationales" and PROBLEMS in self.counts
        return self.counts[PROBLEMS if has_several else "input"]

    @property
    def accepted(self) -> FileEntry:
        """The file of the accepted rows."""
        return self.files[0]

    @property
    def rejections(self) -> FileEntry | None:
        """The file of the rejections; None if nothing was rejected."""
        return next((entry for entry in self.files[1:] if not entry.path.endswith(REFUSED)), None)

    @property
    def refused(self) -> FileEntry | None:
        """The file of refused answers; None if none was kept."""
        return next((entry for entry in self.files[1:] if entry.path.endswith(REFUSED)), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileOrigin:
    """The words of a file about itself, in its Arrow metadata."""

    stage: str
    stage_key: str
    unit: str
    group: str
    counts: dict[str, int]
    """As in the unit's Receipt."""
    is_part: bool
    """Whether the file holds a part of the unit, to be merged with others."""
    rows: str
    """`accepted`, `rejected` or `refused`."""
    rows_sha256: str
    """SHA-256 of the rows, without this metadata (`rows_digest`)."""
    engine: str = ""
    """The engine that generated the rows and its version; empty if none did, or in older files."""


_ORIGIN = TypeAdapter(FileOrigin)


def write_unit(
    run_dir: Path,
    name: UnitName,
    accepted: Sequence[Any],
    record: type,
    rejected: Sequence[Rejection] = (),
    counts: Mapping[str, int] | None = None,
    *,
    refused: Sequence[Any] = (),
    part: str = "",
    engine: str = "",
) -> Receipt:
    """Writes a unit's files and returns its Receipt; nothing is committed yet.

    Args:
        run_dir: directory of the run.
        name: name of the unit.
        accepted: its accepted rows, of class `record`.
        record: the class.
        rejected: its rejected rows.
        counts: counts beside those of the rows.
        refused: its refused answers, of class `record` too.
        part: name of the part, if these are only some of the unit's rows.
        engine: the engine that generated them and its version.
    """
    tallies = _counted(name.stage, accepted, rejected, refused, counts or {})
    # Parts of a unit are written at the same time.
    stem = f"{name.unit}{part and '.' + part}.a{name.attempt}-{name.driver}"
    made = [("accepted", f"{name.stage}/{stem}.arrow", to_table(accepted, record))]
    if rejected:
        path = f"rejections/{name.stage}-{stem}.arrow"
        made.append(("rejected", path, to_table(rejected, Rejection)))
    if refused:
        made.append(("refused", f"{name.stage}/{stem}{REFUSED}", to_table(refused, record)))
    files = [
        _write_rows(
            *(run_dir, path, table, name),
            rows=rows,
            counts=tallies,
            is_part=bool(part),
            engine=engine,
        )
        for rows, path, table in made
    ]
    return Receipt(
        stage=name.stage,
        stage_key=name.stage_key,
        unit=name.unit,
        attempt=name.attempt,
        files=tuple(files),
        counts=tallies,
        group=name.group,
    )


def _counted(
    stage: str,
    accepted: Sequence[Any],
    rejected: Sequence[Rejection],
    refused: Sequence[Any],
    counts: Mapping[str, int],
) -> dict[str, int]:
    """The counts of a unit's rows, beside these others."""
    num_rows = len(accepted) + len(rejected)
    found = {"input": num_rows, "accepted": len(accepted), "rejected": len(rejected), **counts}
    if refused:
        found["refused"] = len(refused)
    if stage == "rationales":
        num_problems = len({row.problem_id for row in (*accepted, *rejected)})
        found |= {PROBLEMS: num_problems} if num_problems != num_rows else {}
    return found


def _write_rows(
    run_dir: Path,
    path: str,
    table: pa.Table,
    name: UnitName,
    *,
    rows: str,
    counts: dict[str, int],
    is_part: bool,
    engine: str,
) -> FileEntry:
    """Writes one file of a unit, with its FileOrigin, and returns its entry."""
    origin = FileOrigin(
        stage=name.stage,
        stage_key=name.stage_key,
        unit=name.unit,
        group=name.group,
        counts=counts,
        is_part=is_part,
        rows=rows,
        rows_sha256=rows_digest(table),
        engine=engine,
    )
    said = json.dumps(dataclasses.asdict(origin), sort_keys=True)
    metadata = {METADATA_KEY: said, CHECKSUM_KEY: _checksum(said.encode())}
    return write_table(run_dir, path, table.replace_schema_metadata(metadata))


def held_out_unit(receipt: Receipt) -> str:
    """The unit of held-out problems that an evaluation's unit answers; empty if it names none."""
    _, mark, unit = receipt.unit.rpartition(f"-{receipt.stage_key[:8]}-")
    return unit if mark else ""


def stem_and_number(unit: str) -> tuple[str, int]:
    """The two parts of the name of a unit that is one of several: of a task, or of a group.

    The number is -1 if the name has none, as no unit's is.
    """
    match = _NUMBERED.fullmatch(unit)
    return (match["stem"], int(match["number"])) if match else (unit, -1)


def origin_of(schema: pa.Schema) -> FileOrigin | None:
    """The words of a file about itself; None if it has none: an older version wrote none.

    Raises:
        ValueError: it has some, and they are not ours.
    """
    metadata = schema.metadata or {}
    said = metadata.get(METADATA_KEY)
    if said is None:
        return None
    checksum = _checksum(said)
    if metadata.get(CHECKSUM_KEY, checksum) != checksum:
        raise ValueError("its metadata is not what was written")
    try:
        return _ORIGIN.validate_json(said, strict=True)
    except ValidationError:
        raise ValueError("its metadata does not say which unit it belongs to") from None


def has_checksum(schema: pa.Schema) -> bool:
    """Whether a file's words about itself are known to be what was written."""
    return CHECKSUM_KEY in (schema.metadata or {})


def _checksum(said: bytes) -> bytes:
    return hashlib.sha256(said).hexdigest().encode()


def read_unit(run_dir: Path, receipt: Receipt, record: type[R]) -> tuple[list[R], list[Rejection]]:
    """A unit's accepted rows and its rejections.

    Raises:
        DamagedFile: see `read_records`.
    """
    accepted = read_records(run_dir, receipt.accepted, record)
    if receipt.rejections is None:
        return accepted, []
    return accepted, read_records(run_dir, receipt.rejections, Rejection)


def read_refused(run_dir: Path, receipt: Receipt, record: type[R]) -> list[R]:
    """A unit's refused answers; none if it kept none.

    Raises:
        DamagedFile: see `read_records`.
    """
    return read_records(run_dir, receipt.refused, record) if receipt.refused is not None else []
