"""Receipts <-> lines of the ledger, each with a checksum of its own and a hash of those before it.

    {"stage": ..., "unit": ..., "files": [...], "counts": {...}, "checksum": ..., "chain": ...}

The chain is no part of a receipt: a fork takes over receipts and begins a chain of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.regular_files import DeniedFile, UnusableFile, open_regular
from orca2_gen.run_directory.units import STAGES, Receipt

MOST_LINE_BYTES = 1 << 20
"""A line of ours has about 1 kB: a name, two files, some counts."""
_RECEIPT = TypeAdapter(Receipt)
_NAMES = {each.name for each in dataclasses.fields(Receipt)}
_FILE_NAMES = {each.name for each in dataclasses.fields(FileEntry)}


class DamagedLedger(DamagedFile):
    """The ledger is not what was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """One line of a ledger file, whole or not."""

    number: int
    num_bytes: int
    receipt: Receipt | None
    """Receipt of a line that is whole by itself."""
    fault: str = ""
    """What is wrong, as the end of a sentence about the line; empty if it is whole and in place."""
    chain: str = ""
    """Hash of the lines so far."""
    is_torn: bool = False
    """Whether its newline is missing, so that it was never acknowledged."""


def ledger_lines(path: Path) -> Iterator[LedgerLine]:
    """The lines of a ledger file, damaged ones too; none if there is no file.

    Raises:
        DamagedLedger: it is not a file that can be read.
        OSError: it cannot be read now, which says nothing of what it holds.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    except DeniedFile as error:
        raise OSError(str(error)) from None
    except UnusableFile as error:
        raise damaged(path, str(error)) from None
    # Older versions chained no lines; the first chained line goes on from all bytes before it.
    before, chain, is_chained, number = hashlib.sha256(), "", False, 0
    with file:
        while line := _next_line(file, path):
            number += 1
            size = len(line)
            if not line.endswith(b"\n"):
                is_torn = size < MOST_LINE_BYTES
                fault = f"is damaged: it has more than {size} bytes" if not is_torn else ""
                yield LedgerLine(
                    number=number, num_bytes=size, receipt=None, fault=fault, is_torn=is_torn
                )
                return
            try:
                receipt, checksum, said = _parsed(line)
            except ValueError as error:
                fault = f"is damaged: {error}"
                yield LedgerLine(number=number, num_bytes=size, receipt=None, fault=fault)
                continue
            fault = ""
            if said or is_chained:
                if said != _hash(chain, checksum):
                    fault = "does not follow the line before it: one was changed, or is missing"
                chain, is_chained = said, True
            else:
                before.update(line)
                chain = before.hexdigest()[:32]
            yield LedgerLine(
                number=number, num_bytes=size, receipt=receipt, fault=fault, chain=chain
            )


def _next_line(file: BufferedReader, path: Path) -> bytes:
    try:
        return file.readline(MOST_LINE_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def encoded_lines(receipts: Iterable[Receipt], chain: str) -> tuple[bytes, str]:
    """The lines of receipts after lines of this chain, and the chain after them.

    Raises:
        ValueError: a line would be longer than a reader takes.
    """
    lines = []
    for receipt in receipts:
        row = dataclasses.asdict(receipt)
        checksum = _checksum(row)
        chain = _hash(chain, checksum)
        line = json.dumps({**row, "checksum": checksum, "chain": chain}, sort_keys=True) + "\n"
        if len(line) > MOST_LINE_BYTES:
            raise ValueError(
                f"the ledger's line of a unit of {receipt.stage} would have {len(line)} bytes, "
                f"expected at most {MOST_LINE_BYTES}: its group is called {receipt.group[:40]!r}; "
                "shorten the categories in the task file"
            )
        lines.append(line)
    return "".join(lines).encode(), chain


def _parsed(line: bytes) -> tuple[Receipt, str, str]:
    """The receipt, checksum and chain of a line; older versions wrote no chain.

    Raises:
        ValueError: the line is not what `encoded_lines` writes.
    """
    try:
        row = json.loads(line)
        checksum, said = row.pop("checksum"), row.pop("chain", "")
        is_whole = checksum == _checksum(row) and isinstance(said, str)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError("its checksum does not match")
    try:
        receipt = _RECEIPT.validate_json(line, strict=True)
    except ValidationError:
        raise ValueError("it holds no receipt of a unit") from None
    # Pydantic passes over keys that it does not know.
    if not row.keys() <= _NAMES or any(entry.keys() != _FILE_NAMES for entry in row["files"]):
        raise ValueError("it holds something other than the receipt of a unit")
    is_ours = (
        receipt.stage in STAGES
        and _are_in_place(receipt)
        and {"input", "accepted", "rejected"} <= receipt.counts.keys()
        and min(*receipt.counts.values(), *(entry.rows for entry in receipt.files)) >= 0
        and min(receipt.attempt, *(entry.bytes for entry in receipt.files)) > 0
    )
    if not is_ours:
        raise ValueError("its receipt is of no unit that a run makes")
    return receipt, checksum, said


def line_fault(receipt: Receipt) -> str:
    """The reason why no reader would take a receipt's line; empty if all would."""
    try:
        _parsed(encoded_lines([receipt], "")[0])
    except ValueError as error:
        return str(error)
    return ""


def _are_in_place(receipt: Receipt) -> bool:
    """Whether a receipt's files are those of a unit of its stage, in order."""
    folders = [receipt.stage]
    if receipt.rejections is not None:
        folders.append("rejections")
    if receipt.refused is not None and receipt.stage == "rationales":
        folders.append(receipt.stage)
    paths = [entry.path for entry in receipt.files]
    is_last = receipt.refused is None or receipt.refused == receipt.files[-1]
    return len(paths) == len(folders) and is_last and all(map(_is_in, folders, paths))


def _is_in(folder: str, path: str) -> bool:
    """Whether a path is that of a file in this folder, and spelled in the only way."""
    head, _, name = path.partition("/")
    return head == folder and "/" not in name and name not in ("", ".", "..")


def damaged(path: Path, what: str) -> DamagedLedger:
    return DamagedLedger(
        f"{what}; restore {path.name} from a copy, or let `orca2 recover {path.parent}` show what "
        "it can rebuild from the units' files"
    )


def _checksum(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


def _hash(chain: str, checksum: str) -> str:
    return hashlib.sha256(f"{chain}|{checksum}".encode()).hexdigest()[:32]
