"""Files of units that no line of the ledger lists -> the receipts that they prove by themselves.

A file says in its Arrow metadata which unit it belongs to, what its rows are, and their digest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import FileEntry, read_table, rows_digest
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.ledger_lines import line_fault
from orca2_gen.run_directory.regular_files import open_regular
from orca2_gen.run_directory.units import (
    EVALUATIONS,
    REFUSED,
    STAGES,
    FileOrigin,
    Receipt,
    has_checksum,
    held_out_unit,
    origin_of,
    stem_and_number,
)
from orca2_gen.selection.blocks import Group

UNIT_FILE = re.compile(
    r"(?P<unit>.+?)(\.p[0-9]+-[0-9]+)?\.a(?P<attempt>[0-9]+)-[0-9a-f]+\.arrow"  # .p: a part of it
)
_MOST_UNIT_BYTES = 2 << 30
"""Bytes of a file that no list gives a size of; packed units of 65,536 long rows have 100 MB."""
_MAGIC_BYTES = 8
_MOST_SCHEMA_BYTES = 4 << 20


def described_file(run_dir: Path, name: str) -> tuple[FileOrigin, FileEntry]:
    """The origin that a file says it has, and its entry; its rows are the ones that it says.

    Raises:
        ValueError: it says nothing, or something that is not true.
    """
    path = run_dir / name
    try:
        with open_regular(path) as file, pa.ipc.open_file(file) as reader:
            schema = reader.schema
        origin = origin_of(schema)
        # Without a checksum, the copy at the file's beginning is all there is to compare with.
        is_twice = has_checksum(schema) or _has_twice(path, schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"is damaged ({str(error).partition(chr(10))[0]})") from None
    if origin is None:
        raise ValueError("an older version wrote it, which did not say what it holds")
    if not is_twice:
        raise ValueError("is damaged: its two descriptions of itself differ")
    if origin.stage not in STAGES or not {"input", "accepted", "rejected"} <= origin.counts.keys():
        raise ValueError("says that it holds something that no run makes")
    is_rejected = origin.rows == "rejected"
    folder = f"rejections/{origin.stage}-" if is_rejected else f"{origin.stage}/"
    is_refused = origin.rows == "refused" and name.endswith(REFUSED)
    own = f"{name.removesuffix(REFUSED)}.arrow" if is_refused else name
    match = UNIT_FILE.fullmatch(own.removeprefix(folder))
    if not name.startswith(folder) or match is None or match["unit"] != origin.unit:
        raise ValueError(f"says that it holds rows of {origin.stage}/{origin.unit}")
    entry = FileEntry(
        path=name,
        rows=origin.counts.get(origin.rows, 0),
        bytes=path.stat().st_size,
        sha256=file_digest(path, _MOST_UNIT_BYTES),
    )
    table = read_table(run_dir, entry, Rejection if is_rejected else RECORDS[origin.stage])
    if rows_digest(table) != origin.rows_sha256:
        raise ValueError("holds other rows than were written")
    return origin, entry


def _has_twice(path: Path, schema: pa.Schema) -> bool:
    """Whether the schema in the footer of an Arrow file stands at its beginning too."""
    with open_regular(path) as file:
        file.seek(_MAGIC_BYTES)
        body = pa.py_buffer(file.read(_MOST_SCHEMA_BYTES))
    return bool(pa.ipc.read_schema(body).equals(schema, check_metadata=True))


def described_receipt(
    origin: FileOrigin,
    accepted: FileEntry,
    files: Mapping[str, tuple[FileOrigin, FileEntry]],
    digests: tuple[str, ...] | None,
) -> Receipt:
    """The receipt of a unit, by its file of accepted rows and the others that this one counts.

    Raises:
        ValueError: a file is not there, or not what the ledger's line says, whose `digests` these
            are.
    """
    entries, name = [accepted], Path(accepted.path).name
    for rows, what, path in (
        ("rejected", "rejections", f"rejections/{origin.stage}-{name}"),
        ("refused", "refused answers", f"{accepted.path.removesuffix('.arrow')}{REFUSED}"),
    ):
        if num := origin.counts.get(rows, 0):
            other = files.get(path)
            if other is None or not _is_beside(origin, other[0], rows):
                raise ValueError(f"the file of its {num} {what} is not there")
            entries.append(other[1])
    receipt = _receipt(origin, entries)
    if fault := line_fault(receipt) or name_fault(receipt):
        raise ValueError(fault)
    if digests not in (None, digests_of(receipt)):
        raise ValueError("is not what the ledger's line of its unit lists")
    return receipt


def _is_beside(accepted: FileOrigin, other: FileOrigin, rows: str) -> bool:
    """Whether another file holds these rows of the same unit."""
    same = dataclasses.replace(other, rows=accepted.rows, rows_sha256=accepted.rows_sha256)
    return other.rows == rows and same == accepted


def _receipt(origin: FileOrigin, files: Sequence[FileEntry]) -> Receipt:
    match = UNIT_FILE.fullmatch(Path(files[0].path).name)
    assert match is not None
    return Receipt(
        stage=origin.stage,
        stage_key=origin.stage_key,
        unit=origin.unit,
        attempt=int(match["attempt"]),
        files=tuple(files),
        counts=origin.counts,
        group=origin.group,
    )


def digests_of(receipt: Receipt) -> tuple[str, ...]:
    return tuple(entry.sha256 for entry in receipt.files)


def name_fault(receipt: Receipt) -> str:
    """The reason why no run calls a unit so, or counts its rows so; empty if one may."""
    stem, number = stem_and_number(receipt.unit)
    of_group = Group(name=receipt.group, num_problems=0, num_groups=0).stem
    is_ours = {
        "scores": number >= 0 and stem == of_group,
        "judgements": number >= 0 and stem == of_group,
        "selections": receipt.unit == of_group and receipt.accepted.rows == 1,
        "evaluation_problems": number >= 0 and stem == receipt.group,
        **dict.fromkeys(EVALUATIONS, number >= 0 and bool(held_out_unit(receipt))),
    }.get(receipt.stage, number >= 0)
    if not is_ours:
        return f"no run gives a unit of {receipt.stage} this name"
    counts = receipt.counts
    if counts["input"] != counts["accepted"] + counts["rejected"]:
        return f"counts {counts['input']} rows that it was made of, and holds others"
    return ""
