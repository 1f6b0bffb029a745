"""The files of a run and what is left of its ledger -> the units that they prove.

Two things prove a unit: a line of the ledger that is whole by itself, with the files that it lists;
or, where no line names the unit, its files alone, which say which unit they hold and have the rows
that they say. Where a line names the unit, only files with the digests in it are that unit: another
attempt may hold other rows, and later stages were made from the committed ones.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_table, rows_digest
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.ledger_lines import DamagedLedger, ledger_lines, line_fault
from orca2_gen.run_directory.regular_files import open_regular
from orca2_gen.run_directory.units import (
    REFUSED,
    STAGES,
    FileOrigin,
    Receipt,
    has_checksum,
    origin_of,
    stem_and_number,
)
from orca2_gen.run_directory.unlisted import unit_files
from orca2_gen.selection.blocks import Group

Name = tuple[str, str]
"""Stage and unit."""
_FILE = re.compile(r"(?P<unit>.+)\.a(?P<attempt>[0-9]+)-[0-9a-f]+\.arrow")
_MOST_UNIT_BYTES = 2 << 30
"""Bytes of a file that no list gives a size of; packed units of 65,536 long rows have 100 MB."""
_MAGIC_BYTES = 8
_MOST_SCHEMA_BYTES = 4 << 20
_ELSEWHERE = "was made under other settings than config.json's"


@dataclass(kw_only=True, slots=True)
class Proofs:
    """The units of a run that are proved, and the others."""

    units: dict[Name, Receipt] = field(default_factory=dict)
    listed: set[Name] = field(default_factory=set)
    """Proved units of which a line of the ledger is left."""
    unproved: list[str] = field(default_factory=list)
    """A line for each unit or file that cannot be proved, with the reason."""
    lost: dict[str, str] = field(default_factory=dict)
    """Unit of problems that has left a trace and is not proved -> its group; empty if that is not
    known."""


def find_proofs(run_dir: Path, keys: Mapping[str, str], *, held_out: Collection[str]) -> Proofs:
    """The Proofs of a run directory.

    Args:
        run_dir: the directory.
        keys: stage -> its key, as far as config.json says.
        held_out: names of the held-out tasks, which can be read again.

    Raises:
        OSError: the ledger cannot be read now.
    """
    proofs = Proofs()
    lines = _lines(run_dir)
    foreign = set()
    for name, receipts in lines.items():
        fault = _listed_fault(run_dir, receipts, keys)
        if fault:
            proofs.unproved.append(f"{'/'.join(name)}: {fault}")
        else:
            proofs.units[name] = receipts[0]
            proofs.listed.add(name)
        if fault == _ELSEWHERE:
            foreign.add(name)
        elif fault and name[0] == "problems":
            proofs.lost[name[1]] = receipts[0].group
    digests = {name: _digests(r[0]) if len(r) == 1 else () for name, r in lines.items()}
    for name, receipt in _described_units(run_dir, proofs, digests):
        if receipt.stage not in keys and receipt.stage != "evaluation":
            fault = "config.json does not say what it was made of; restore config.json from a copy"
        elif keys.get(receipt.stage, receipt.stage_key) != receipt.stage_key:
            fault = _ELSEWHERE
            foreign.add(name)
        elif receipt.stage == "evaluation" and not _answers(receipt, proofs, held_out):
            fault = "answers no unit of evaluation_problems"
        else:
            proofs.units[name] = receipt
            continue
        proofs.unproved.append(f"{'/'.join(name)}: {fault}")
    for unit in _problem_units(run_dir):
        if ("problems", unit) not in foreign:
            proofs.lost.setdefault(unit, "")
    for _, unit in proofs.units.keys() & {("problems", unit) for unit in proofs.lost}:
        del proofs.lost[unit]
    return proofs


def _lines(run_dir: Path) -> dict[Name, list[Receipt]]:
    """The different receipts in the ledger's whole lines, by unit."""
    found: dict[Name, list[Receipt]] = defaultdict(list)
    try:
        for line in ledger_lines(run_dir / "ledger.jsonl"):
            if line.receipt is not None:
                name = line.receipt.stage, line.receipt.unit
                if line.receipt not in found[name]:
                    found[name].append(line.receipt)
    except DamagedLedger:
        pass  # it is no file of lines
    return found


def _listed_fault(run_dir: Path, receipts: Sequence[Receipt], keys: Mapping[str, str]) -> str:
    """The reason why the lines of a unit do not prove it; empty if they do."""
    receipt = receipts[0]
    if len(receipts) > 1:
        return "two lines of the ledger commit it"
    if keys.get(receipt.stage, receipt.stage_key) != receipt.stage_key:
        return _ELSEWHERE
    try:
        for entry in receipt.files:
            record = Rejection if entry == receipt.rejections else RECORDS[receipt.stage]
            read_table(run_dir, entry, record)
    except (DamagedFile, OSError) as error:
        return str(error)
    return _name_fault(receipt) or line_fault(receipt)


def _digests(receipt: Receipt) -> tuple[str, ...]:
    return tuple(entry.sha256 for entry in receipt.files)


def _described_units(
    run_dir: Path, proofs: Proofs, digests: Mapping[Name, tuple[str, ...]]
) -> Iterator[tuple[Name, Receipt]]:
    """The units that are not proved yet and whose files say themselves what they hold.

    `digests` are those of the files of units that a line names.
    """
    files: dict[str, tuple[FileOrigin, FileEntry]] = {}
    known = {entry.path for receipt in proofs.units.values() for entry in receipt.files}
    for path in unit_files(run_dir):
        name = path.relative_to(run_dir).as_posix()
        if name in known:
            continue
        try:
            files[name] = _described(run_dir, name)
        except (ValueError, OSError) as error:
            proofs.unproved.append(f"{name}: {error}")
    attempts: dict[Name, list[Receipt]] = defaultdict(list)
    for origin, entry in files.values():
        unit = origin.stage, origin.unit
        if origin.rows != "accepted" or origin.is_part or unit in proofs.units:
            continue
        entries, rejected = [entry], origin.counts["rejected"]
        if rejected:
            beside = files.get(f"rejections/{origin.stage}-{Path(entry.path).name}")
            if beside is None or not _is_beside(origin, beside[0]):
                proofs.unproved.append(
                    f"{entry.path}: the file of its {rejected} rejections is not there"
                )
                continue
            entries.append(beside[1])
        if refused := origin.counts.get("refused", 0):
            beside = files.get(f"{entry.path.removesuffix('.arrow')}{REFUSED}")
            if beside is None or not _is_beside(origin, beside[0]):
                proofs.unproved.append(
                    f"{entry.path}: the file of its {refused} refused answers is not there"
                )
                continue
            entries.append(beside[1])
        receipt = _receipt(origin, entries)
        if fault := line_fault(receipt) or _name_fault(receipt):
            proofs.unproved.append(f"{entry.path}: {fault}")
        elif digests.get(unit, _digests(receipt)) != _digests(receipt):
            proofs.unproved.append(f"{entry.path}: is not what the ledger's line of its unit lists")
        else:
            attempts[unit].append(receipt)
    for unit, receipts in attempts.items():
        if len({_digests(receipt) for receipt in receipts}) > 1:
            proofs.unproved.append(
                f"{'/'.join(unit)}: {len(receipts)} attempts at it differ, and no line of the "
                "ledger says which one counts"
            )
        else:
            yield unit, min(receipts, key=lambda each: (each.attempt, each.accepted.path))


def _described(run_dir: Path, name: str) -> tuple[FileOrigin, FileEntry]:
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
    match = _FILE.fullmatch(own.removeprefix(folder))
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


def _is_beside(accepted: FileOrigin, other: FileOrigin) -> bool:
    """Whether a file belongs to the same unit as that of the accepted rows."""
    same = dataclasses.replace(other, rows=accepted.rows, rows_sha256=accepted.rows_sha256)
    return other.rows != "accepted" and same == accepted


def _receipt(origin: FileOrigin, files: Sequence[FileEntry]) -> Receipt:
    match = _FILE.fullmatch(Path(files[0].path).name)
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


def _name_fault(receipt: Receipt) -> str:
    """The reason why no run calls a unit so, or counts its rows so; empty if one may."""
    stem, number = stem_and_number(receipt.unit)
    of_group = Group(name=receipt.group, num_problems=0, num_groups=0).stem
    is_ours = {
        "scores": number >= 0 and stem == of_group,
        "judgements": number >= 0 and stem == of_group,
        "selections": receipt.unit == of_group and receipt.accepted.rows == 1,
        "evaluation_problems": number >= 0 and stem == receipt.group,
        "evaluation": number >= 0 and f"-{receipt.stage_key[:8]}-" in stem,
    }.get(receipt.stage, number >= 0)
    if not is_ours:
        return f"no run gives a unit of {receipt.stage} this name"
    counts = receipt.counts
    if counts["input"] != counts["accepted"] + counts["rejected"]:
        return f"counts {counts['input']} rows that it was made of, and holds others"
    return ""


def _answers(receipt: Receipt, proofs: Proofs, held_out: Collection[str]) -> bool:
    """Whether an evaluation is of held-out problems that are proved, or that can be read again."""
    unit = receipt.unit.rpartition(f"-{receipt.stage_key[:8]}-")[2]
    task, number = stem_and_number(unit)
    is_readable = task in held_out and number >= 0
    return is_readable or ("evaluation_problems", unit) in proofs.units


def _problem_units(run_dir: Path) -> Iterator[str]:
    """The names of units of problems of which some file is there, whatever it holds."""
    for path in unit_files(run_dir):
        stage, of_stage, name = path.parent.name, "problems", path.name
        if stage == "rejections":
            of_stage, _, name = name.partition("-")
        elif stage != "problems":
            continue
        match = _FILE.fullmatch(name)
        if of_stage == "problems" and match and stem_and_number(match["unit"])[1] >= 0:
            yield match["unit"]
