"""What is committed: one checksummed line per unit, one writer; only this file knows the layout.

    RUN/config.json        the resolved config and what each stage's key was made of
    RUN/ledger.jsonl       the commits, in order, each chained to the lines before it
    RUN/ledger.tip.json    how long the ledger was a few seconds ago, at least
    RUN/driver.lock        held by the one driver: host, pid and start time

An actor writes a unit's files and returns a Receipt; the driver commits it here. A file that no
line lists does not exist for any reader. A stage's key is a hash of all that determines its rows
and of the key before it, so a committed unit is reused exactly if it would come out the same.

A crash can cut short the last line, which was never acknowledged; it does nothing else. So any
other fault is damage, and a damaged ledger is refused: what it no longer lists would be made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.run_directory.arrow_files import R, read_records
from orca2_gen.run_directory.durable_files import naming, sync_directory, write_bytes
from orca2_gen.run_directory.ledger_lines import (
    MOST_LINE_BYTES,
    damaged,
    encoded_lines,
    ledger_lines,
)
from orca2_gen.run_directory.regular_files import DeniedFile, UnusableFile, read_regular
from orca2_gen.run_directory.units import STAGES, Receipt

TIP_SECONDS = 5.0
"""Seconds between two writings of the tip, each of which costs three calls that reach the disk."""


@dataclass(kw_only=True, slots=True)
class Tip:
    """The end of a ledger."""

    lines: int = 0
    chain: str = ""
    """Hash of every line so far."""
    written_lines: int = -1
    """Lines that ledger.tip.json counts; -1 if there is none."""
    written_at: float = -math.inf
    """Monotonic time at which this process last wrote it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The commits of one run directory. Only the driver holds one with `writable`."""

    run_dir: Path
    writable: bool
    fence: Callable[[], None] = lambda: None
    """Raises if this process may no longer commit: the lock was taken over."""
    units: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    """(stage, unit) -> its Receipt."""
    notes: list[str] = field(default_factory=list)
    """Lines for people about what was found on opening and is no damage."""
    tip: Tip = field(default_factory=Tip)

    def committed(self, stage: str) -> list[Receipt]:
        """The stage's receipts, by unit name."""
        return [receipt for key, receipt in sorted(self.units.items()) if key[0] == stage]

    def commit(self, receipts: Iterable[Receipt]) -> None:
        """Appends the receipts with one fsync; their rows exist only after this.

        Raises:
            OSError: they could not be made durable; none of them counts in this process.
            RunInUse: another driver has taken over the run directory.
            ValueError: a receipt is too long for a line.
        """
        assert self.writable
        self.fence()
        accepted = list(receipts)
        names = [(receipt.stage, receipt.unit) for receipt in accepted]
        twice = len(set(names)) < len(names) or any(name in self.units for name in names)
        assert not twice, f"one of {names} is committed twice"
        body, chain = encoded_lines(accepted, self.tip.chain)
        self._append(body)
        self.tip.lines += len(accepted)
        self.tip.chain = chain
        self.units.update(zip(names, accepted, strict=True))
        if time.monotonic() - self.tip.written_at >= TIP_SECONDS:
            self.write_tip()

    def _append(self, body: bytes) -> None:
        path = self.run_dir / "ledger.jsonl"
        with naming(path, len(body)):
            with open(path, "ab") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(self.run_dir)

    def write_tip(self) -> None:
        """Writes down how long the ledger is, so that a shorter one is known to be cut off.

        Raises:
            RunInUse: another driver has taken over the run directory.
        """
        assert self.writable
        if self.tip.written_lines == self.tip.lines:
            return
        self.fence()
        if not self.tip.lines:
            self._append(b"")  # no tip without a ledger
        body = {"lines": self.tip.lines, "chain": self.tip.chain}
        write_bytes(self.run_dir / "ledger.tip.json", (json.dumps(body) + "\n").encode())
        self.tip.written_lines, self.tip.written_at = self.tip.lines, time.monotonic()


def stage_key(previous: str, determinants: Mapping[str, Any]) -> str:
    """The key of a stage: a hash of what determines its rows and of the key of the stage before."""
    canonical = json.dumps([previous, determinants], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


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

    A last line without its newline is dropped (and cut off the file if writable).

    Raises:
        DamagedLedger: another line is damaged, or a line is missing.
        OSError: it cannot be read now.
        RunInUse: another driver has taken over the run directory.
    """
    ledger = Ledger(run_dir=run_dir, writable=writable, fence=fence)
    path = run_dir / "ledger.jsonl"
    tip = _recorded_tip(run_dir)
    kept = 0
    for found in ledger_lines(path):
        if found.is_torn:
            ledger.notes.append(
                f"{path}:{found.number} was cut short; the unit it would have committed is made "
                "again"
            )
            if writable:
                fence()
                os.truncate(path, kept)
            break
        if found.fault:
            raise damaged(path, f"{path}:{found.number} {found.fault}")
        receipt = found.receipt
        assert receipt is not None
        name = receipt.stage, receipt.unit
        if name in ledger.units:
            raise damaged(path, f"{path}:{found.number} commits {'/'.join(name)} a second time")
        ledger.units[name] = receipt
        ledger.tip.lines, ledger.tip.chain = found.number, found.chain
        kept += found.num_bytes
        if tip is not None and tip.lines == found.number and tip.chain != found.chain:
            raise damaged(
                path, f"{path} holds other lines up to {found.number} than were committed"
            )
    if tip is not None and ledger.tip.lines < tip.lines:
        raise damaged(
            path,
            f"{path} holds {ledger.tip.lines} whole lines, and {run_dir / 'ledger.tip.json'} says "
            f"that at least {tip.lines} were committed",
        )
    if tip is not None:
        ledger.tip.written_lines = tip.lines
    if tip is None and ledger.units:
        ledger.notes.append(
            f"{run_dir} has no ledger.tip.json, as an older version leaves it, so a ledger that "
            "lost its end would not be noticed; the next commit writes one"
        )
    if tip is None and not ledger.units and _has_units(run_dir):
        raise damaged(path, f"{run_dir} holds units' files and {path.name} lists none of them")
    return ledger


def _recorded_tip(run_dir: Path) -> Tip | None:
    """The contents of ledger.tip.json; None if there is none: an older version wrote the ledger.

    Raises:
        DamagedLedger: it is not what was written.
    """
    path = run_dir / "ledger.tip.json"
    try:
        said = json.loads(read_regular(path, MOST_LINE_BYTES))
        lines, chain = said["lines"], said["chain"]
        if type(lines) is not int or lines < 0 or type(chain) is not str:
            raise ValueError("it names no line")
    except FileNotFoundError:
        return None
    except DeniedFile as error:
        raise OSError(str(error)) from None
    except UnusableFile as error:
        raise damaged(path, str(error)) from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(path, f"{path} does not say how long the ledger is ({error!r})") from None
    return Tip(lines=lines, chain=chain)


def write_summary(run_dir: Path, name: str, value: Mapping[str, Any]) -> Path:
    """Writes a JSON file of the run directory durably and returns its path."""
    path = run_dir / name
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
    return path


def _has_units(run_dir: Path) -> bool:
    folders = (run_dir / stage for stage in STAGES)
    return any(next(folder.glob("*.a*-*.arrow"), None) is not None for folder in folders)
