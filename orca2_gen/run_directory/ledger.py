"""What is committed: one checksummed line per unit, one writer; only this file knows the layout.

    RUN/config.json      the resolved config and what each stage's key was made of
    RUN/ledger.jsonl     the commits, in order
    RUN/<stage>/         Arrow files of the accepted rows
    RUN/rejections/      Arrow files of the rejections of all stages
    RUN/driver.lock      held by the one driver: host, pid and start time

An actor writes files and returns a Receipt; the driver commits it here. A file that no line lists
does not exist for any reader. A stage's key is a hash of all that determines its rows and of the
key before it, so a committed unit is reused exactly if it would come out the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import (
    FileEntry,
    R,
    naming,
    read_records,
    sync_directory,
    write_bytes,
    write_records,
)

STAGES = (
    "problems",
    "scores",
    "judgements",
    "selections",
    "rationales",
    "examples",
    "evaluation_problems",
    "evaluation",
)
"""The stages that commit units, in order; each one's files lie in a directory of its name."""

_UNIT_FILE = re.compile(r".+\.a[0-9]+-[0-9a-f]+\.arrow")
_TEMPORARY = re.compile(r"\..+\.(arrow|json|lock)\.tmp-.+")


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
    """The accepted rows' file first, then the rejections' file."""
    counts: dict[str, int]
    """`input`, `accepted`, `rejected`, and token counts where an engine worked."""
    group: str = ""
    """The selection group of all its rows, so that the driver need not read them."""

    @property
    def accepted(self) -> FileEntry:
        """The file of the accepted rows."""
        return self.files[0]

    @property
    def rejections(self) -> FileEntry | None:
        """The file of the rejections; None if nothing was rejected."""
        return self.files[1] if len(self.files) > 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The commits of one run directory. Only the driver holds one with `writable`."""

    run_dir: Path
    writable: bool
    fence: Callable[[], None] = lambda: None
    """Raises if this process may no longer commit: the lock was taken over."""
    units: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    """(stage, unit) -> its Receipt."""
    torn: list[str] = field(default_factory=list)
    """Lines for people about what was dropped on opening."""

    def committed(self, stage: str) -> list[Receipt]:
        """The stage's receipts, by unit name."""
        return [receipt for key, receipt in sorted(self.units.items()) if key[0] == stage]

    def commit(self, receipts: Iterable[Receipt]) -> None:
        """Appends the receipts with one fsync; their rows exist only after this.

        Raises:
            OSError: they could not be made durable; none of them counts in this process.
            RunInUse: another driver has taken over the run directory.
        """
        assert self.writable
        self.fence()
        accepted = list(receipts)
        path = self.run_dir / "ledger.jsonl"
        body = b"".join(_line(receipt) for receipt in accepted)
        names = [(receipt.stage, receipt.unit) for receipt in accepted]
        twice = len(set(names)) < len(names) or any(name in self.units for name in names)
        assert not twice, f"one of {names} is committed twice"
        with naming(path, len(body)):
            with open(path, "ab") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(self.run_dir)
        self.units.update(((receipt.stage, receipt.unit), receipt) for receipt in accepted)


def stage_key(previous: str, determinants: Mapping[str, Any]) -> str:
    """The key of a stage: a hash of what determines its rows and of the key of the stage before."""
    canonical = json.dumps([previous, determinants], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def write_unit(
    run_dir: Path,
    name: UnitName,
    accepted: Sequence[Any],
    record: type,
    rejected: Sequence[Rejection] = (),
    counts: Mapping[str, int] | None = None,
) -> Receipt:
    """Writes a unit's files and returns its Receipt; nothing is committed yet."""
    file = f"{name.unit}.a{name.attempt}-{name.driver}.arrow"
    files = [write_records(run_dir, f"{name.stage}/{file}", accepted, record)]
    if rejected:
        files.append(write_records(run_dir, f"rejections/{name.stage}-{file}", rejected, Rejection))
    tallies = {
        "input": len(accepted) + len(rejected),
        "accepted": len(accepted),
        "rejected": len(rejected),
    }
    return Receipt(
        stage=name.stage,
        stage_key=name.stage_key,
        unit=name.unit,
        attempt=name.attempt,
        files=tuple(files),
        counts=tallies | dict(counts or {}),
        group=name.group,
    )


def read_unit(run_dir: Path, receipt: Receipt, record: type[R]) -> tuple[list[R], list[Rejection]]:
    """A unit's accepted rows and its rejections.

    Raises:
        DamagedFile: see `read_records`.
    """
    accepted = read_records(run_dir, receipt.accepted, record)
    if receipt.rejections is None:
        return accepted, []
    return accepted, read_records(run_dir, receipt.rejections, Rejection)


def committed_rows(ledger: Ledger, stage: str, record: type[R]) -> list[R]:
    """The accepted rows of a stage, by unit name.

    Raises:
        DamagedFile: see `read_records`.
    """
    return [
        row
        for receipt in ledger.committed(stage)
        for row in read_records(ledger.run_dir, receipt.accepted, record)
    ]


def read_ledger(
    run_dir: Path, *, writable: bool = False, fence: Callable[[], None] = lambda: None
) -> Ledger:
    """The Ledger of a run directory; empty if there is none yet.

    A crash can cut short only the last line, which was never acknowledged, so it is dropped (and
    cut off the file if writable).

    Raises:
        ValueError: a line before the last is damaged, or a unit is committed twice; no crash does
            either.
    """
    ledger = Ledger(run_dir=run_dir, writable=writable, fence=fence)
    path = run_dir / "ledger.jsonl"
    body = path.read_bytes() if path.exists() else b""
    kept, lines = 0, body.split(b"\n")
    last = len(lines) - (not lines[-1])
    for number, line in enumerate(lines, 1):
        if not line:
            kept += 1
            continue
        receipt = _receipt(line) if number < len(lines) else None
        if receipt is None:
            if number < last:
                raise ValueError(
                    f"{path}:{number} is damaged (its checksum does not match); restore it from a "
                    "copy, or start again in another run directory"
                )
            ledger.torn.append(
                f"{path}:{number} was cut short; the unit it would have committed is made again"
            )
            break
        if (receipt.stage, receipt.unit) in ledger.units:
            raise ValueError(
                f"{path}:{number} commits {receipt.stage}/{receipt.unit} a second time, which no "
                "driver does; restore the file from a copy, or start again in another run directory"
            )
        ledger.units[receipt.stage, receipt.unit] = receipt
        kept += len(line) + 1
    if ledger.torn and writable:
        with open(path, "r+b") as file:
            file.truncate(kept)
            os.fsync(file.fileno())
    return ledger


def _line(receipt: Receipt) -> bytes:
    row = dataclasses.asdict(receipt)
    return (json.dumps({**row, "checksum": _checksum(row)}, sort_keys=True) + "\n").encode()


def _receipt(line: bytes) -> Receipt | None:
    """The line's Receipt; None if the line is not whole."""
    try:
        row = json.loads(line)
        if row.pop("checksum") != _checksum(row):
            return None
        return Receipt(**{**row, "files": tuple(FileEntry(**entry) for entry in row["files"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _checksum(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


def unlisted_files(ledger: Ledger) -> list[Path]:
    """Files of ours that no line lists: a process that wrote them died or was too late."""
    listed = {entry.path for receipt in ledger.units.values() for entry in receipt.files}
    units = [*STAGES, "rejections"]
    found = []
    for folder in (*units, "dataset", "."):
        for path in sorted((ledger.run_dir / folder).glob("*")):
            is_unit = folder in units and _UNIT_FILE.fullmatch(path.name)
            ours = (is_unit or _TEMPORARY.fullmatch(path.name)) and path.is_file()
            if ours and path.relative_to(ledger.run_dir).as_posix() not in listed:
                found.append(path)
    return found


def remove_unlisted(ledger: Ledger) -> None:
    """Removes what `unlisted_files` finds; their units are made again."""
    assert ledger.writable
    ledger.fence()  # another driver's files are unlisted here too
    for path in unlisted_files(ledger):
        path.unlink(missing_ok=True)


def write_summary(run_dir: Path, name: str, value: Mapping[str, Any]) -> Path:
    """Writes a JSON file of the run directory durably and returns its path."""
    path = run_dir / name
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
    return path
