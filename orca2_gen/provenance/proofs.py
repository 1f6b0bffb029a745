"""The files of a run and what is left of its ledger -> the units that they prove.

Two things prove a unit: a line of the ledger that is whole by itself, with the files that it lists;
or, where no line names the unit, its files alone, which say which unit they hold and have the rows
that they say. Where a line names the unit, only files with the digests in it are that unit: another
attempt may hold other rows, and later stages were made from the committed ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.described_files import (
    UNIT_FILE,
    described_file,
    described_receipt,
    digests_of,
    name_fault,
)
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_table
from orca2_gen.run_directory.ledger_lines import DamagedLedger, ledger_lines, line_fault
from orca2_gen.run_directory.units import (
    EVALUATIONS,
    FileOrigin,
    Receipt,
    held_out_unit,
    stem_and_number,
)
from orca2_gen.run_directory.unlisted import unit_files

Name = tuple[str, str]
"""Stage and unit."""
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
    digests = {name: digests_of(r[0]) if len(r) == 1 else () for name, r in lines.items()}
    for name, receipt in _described_units(run_dir, proofs, digests):
        if receipt.stage not in keys and receipt.stage not in EVALUATIONS:
            fault = "config.json does not say what it was made of; restore config.json from a copy"
        elif keys.get(receipt.stage, receipt.stage_key) != receipt.stage_key:
            fault = _ELSEWHERE
            foreign.add(name)
        elif receipt.stage in EVALUATIONS and not _answers(receipt, proofs, held_out):
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
    return name_fault(receipt) or line_fault(receipt)


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
            files[name] = described_file(run_dir, name)
        except (ValueError, OSError) as error:
            proofs.unproved.append(f"{name}: {error}")
    attempts: dict[Name, list[Receipt]] = defaultdict(list)
    for origin, entry in files.values():
        unit = origin.stage, origin.unit
        if origin.rows != "accepted" or origin.is_part or unit in proofs.units:
            continue
        try:
            receipt = described_receipt(origin, entry, files, digests.get(unit))
        except ValueError as error:
            proofs.unproved.append(f"{entry.path}: {error}")
            continue
        attempts[unit].append(receipt)
    for unit, receipts in attempts.items():
        if len({digests_of(receipt) for receipt in receipts}) > 1:
            proofs.unproved.append(
                f"{'/'.join(unit)}: {len(receipts)} attempts at it differ, and no line of the "
                "ledger says which one counts"
            )
        else:
            yield unit, min(receipts, key=lambda each: (each.attempt, each.accepted.path))


def _answers(receipt: Receipt, proofs: Proofs, held_out: Collection[str]) -> bool:
    """Whether an evaluation is of held-out problems that are proved, or that can be read again."""
    unit = held_out_unit(receipt)
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
        match = UNIT_FILE.fullmatch(name)
        if of_stage == "problems" and match and stem_and_number(match["unit"])[1] >= 0:
            yield match["unit"]
