"""A run whose ledger is damaged or lost -> the ledger that its files prove.

Two things prove a unit: a line of the ledger that is whole by itself, with the files that it lists;
or the files alone, which say which unit they hold and have the rows that they say. A unit is taken
over only if all that it was made from is proved too, or comes out the same again: otherwise a
resumed run would put rows beside it that do not belong to it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.load import read_config
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.recorded import Recorded, read_recorded
from orca2_gen.provenance.stage_keys import PREVIOUS, stage_keys
from orca2_gen.provenance.standing import standing_units
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import (
    DamagedFile,
    FileEntry,
    check_file,
    read_table,
    rows_digest,
    write_bytes,
)
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.ledger import Ledger, Tip, read_ledger
from orca2_gen.run_directory.ledger_lines import DamagedLedger, encoded_lines, ledger_lines
from orca2_gen.run_directory.lock import run_lock
from orca2_gen.run_directory.regular_files import open_regular
from orca2_gen.run_directory.units import STAGES, FileOrigin, Receipt, origin_of
from orca2_gen.run_directory.unlisted import keep_copy, set_aside, set_aside_unlisted, unit_files
from orca2_gen.strategies import load_strategies

_NAME = re.compile(r"(?P<unit>.+)\.a(?P<attempt>[0-9]+)-[0-9a-f]+\.arrow")
Name = tuple[str, str]
"""Stage and unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """The units of a run that can be proved, and the others."""

    damage: str
    """The damage of the ledger; empty if it is whole."""
    receipts: tuple[Receipt, ...] = ()
    """Proved units, in the order of the stages."""
    num_listed: int = 0
    """Of these, the units of which a line of the ledger is left."""
    unproved: tuple[str, ...] = ()
    """A line for each unit or file that cannot be proved, with the reason."""
    fallen: tuple[Name, ...] = ()
    """Units that are whole but rest on others that are not proved."""


def plan_recovery(run_dir: Path) -> Recovery:
    """The Recovery of a run directory, which is only read.

    Raises:
        ValueError: its config.json, which says which units belong to the run, cannot be read.
    """
    recorded = _recorded(run_dir)
    config = read_config(run_dir / "config.json")
    strategies = recorded.strategies or load_strategies(config.strategies)
    try:
        read_ledger(run_dir)
    except DamagedLedger as error:
        damage = str(error).partition("; restore")[0]
    else:
        return Recovery(damage="")
    unproved: list[str] = []
    listed = dict(_listed_units(run_dir, unproved))
    found = dict(_described_units(run_dir, listed, unproved))
    keys = stage_keys(recorded.stages) if set(PREVIOUS) <= recorded.stages.keys() else {}
    units = {**found, **listed}
    for name, receipt in list(units.items()):
        if keys.get(receipt.stage, receipt.stage_key) != receipt.stage_key:
            unproved.append(f"{'/'.join(name)}: was made under other settings than config.json's")
            del units[name]
    proved = Ledger(run_dir=run_dir, writable=False, units=units)
    kept = standing_units(
        proved,
        selection_rule(config, strategies),
        lost={},
        by_task=config.selection.select_by == "task",
    )
    receipts = sorted(kept.values(), key=lambda each: (STAGES.index(each.stage), each.unit))
    return Recovery(
        damage=damage,
        receipts=tuple(receipts),
        num_listed=len(kept.keys() & listed.keys()),
        unproved=tuple(unproved),
        fallen=tuple(sorted(units.keys() - kept.keys())),
    )


def recover(run_dir: Path) -> Recovery:
    """The Recovery of a run directory, after its ledger was written anew from it.

    The damaged ledger and the files of all other units go to RUN/set-aside/.

    Raises:
        RunInUse: a driver works on the run.
        ValueError: see `plan_recovery`.
    """
    _recorded(run_dir)  # a lock is a file, and this may be anyone's directory
    with run_lock(run_dir) as lock:
        plan = plan_recovery(run_dir)
        if not plan.damage:
            return plan
        for name in ("ledger.jsonl", "ledger.tip.json"):
            path = run_dir / name
            if path.is_file() and not path.is_symlink():
                # The lines stay until others replace them: they may prove what no file does.
                keep_copy(run_dir, path)
            elif path.exists() or path.is_symlink():
                set_aside(run_dir, path)
        lines, chain = encoded_lines(plan.receipts, "")
        lock.check()
        write_bytes(run_dir / "ledger.jsonl", lines)
        ledger = Ledger(
            run_dir=run_dir,
            writable=True,
            fence=lock.check,
            units={_name(receipt): receipt for receipt in plan.receipts},
            tip=Tip(lines=len(plan.receipts), chain=chain),
        )
        ledger.write_tip()
        set_aside_unlisted(ledger)
    return plan


def _recorded(run_dir: Path) -> Recorded:
    try:
        return read_recorded(run_dir)
    except FileNotFoundError:
        raise ValueError(
            f"{run_dir} holds no config.json, which says which units belong to a run; give the "
            "directory of a run, or restore the file from a copy"
        ) from None


def _listed_units(run_dir: Path, unproved: list[str]) -> Iterator[tuple[Name, Receipt]]:
    """The units of the ledger's whole lines whose files are what the lines say."""
    lines: dict[Name, list[Receipt]] = defaultdict(list)
    try:
        for line in ledger_lines(run_dir / "ledger.jsonl"):
            if line.receipt is not None and line.receipt not in lines[_name(line.receipt)]:
                lines[_name(line.receipt)].append(line.receipt)
    except DamagedLedger:
        return  # it is no file of lines
    for name, receipts in lines.items():
        if len(receipts) > 1:
            unproved.append(f"{'/'.join(name)}: two lines of the ledger commit it")
        elif fault := _fault(run_dir, receipts[0]):
            unproved.append(f"{'/'.join(name)}: {fault}")
        else:
            yield name, receipts[0]


def _fault(run_dir: Path, receipt: Receipt) -> str:
    try:
        for entry in receipt.files:
            check_file(run_dir, entry)
    except DamagedFile as error:
        return str(error)
    return ""


def _described_units(
    run_dir: Path, listed: Mapping[Name, Receipt], unproved: list[str]
) -> Iterator[tuple[Name, Receipt]]:
    """The units that no line is left of and whose files say themselves what they hold."""
    files: dict[str, tuple[FileOrigin, FileEntry]] = {}
    known = {entry.path for receipt in listed.values() for entry in receipt.files}
    for path in unit_files(run_dir):
        name = path.relative_to(run_dir).as_posix()
        if name in known:
            continue
        try:
            files[name] = _described(run_dir, name)
        except (ValueError, OSError) as error:
            unproved.append(f"{name}: {error}")
    attempts: dict[Name, list[Receipt]] = defaultdict(list)
    for origin, entry in files.values():
        if origin.rows != "accepted" or origin.is_part or (origin.stage, origin.unit) in listed:
            continue
        entries, rejected = [entry], origin.counts["rejected"]
        if rejected:
            beside = files.get(f"rejections/{origin.stage}-{Path(entry.path).name}")
            if beside is None or not _is_beside(origin, beside[0]):
                unproved.append(f"{entry.path}: the file of its {rejected} rejections is not there")
                continue
            entries.append(beside[1])
        attempts[origin.stage, origin.unit].append(_receipt(origin, entries))
    for unit, receipts in attempts.items():
        if len({tuple(entry.sha256 for entry in receipt.files) for receipt in receipts}) > 1:
            unproved.append(
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
            origin = origin_of(reader.schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"is damaged ({str(error).partition(chr(10))[0]})") from None
    if origin is None:
        raise ValueError("an older version wrote it, which did not say what it holds")
    if origin.stage not in STAGES or not {"input", "accepted", "rejected"} <= origin.counts.keys():
        raise ValueError("says that it holds something that no run makes")
    is_accepted = origin.rows == "accepted"
    folder = f"{origin.stage}/" if is_accepted else f"rejections/{origin.stage}-"
    match = _NAME.fullmatch(name.removeprefix(folder))
    if not name.startswith(folder) or match is None or match["unit"] != origin.unit:
        raise ValueError(f"says that it holds rows of {origin.stage}/{origin.unit}")
    entry = FileEntry(
        path=name,
        rows=origin.counts["accepted" if is_accepted else "rejected"],
        bytes=path.stat().st_size,
        sha256=file_digest(path),
    )
    table = read_table(run_dir, entry, RECORDS[origin.stage] if is_accepted else Rejection)
    if rows_digest(table) != origin.rows_sha256:
        raise ValueError("holds other rows than were written")
    return origin, entry


def _is_beside(accepted: FileOrigin, rejected: FileOrigin) -> bool:
    """Whether two files hold the accepted and the rejected rows of one unit."""
    same = dataclasses.replace(rejected, rows=accepted.rows, rows_sha256=accepted.rows_sha256)
    return rejected.rows == "rejected" and same == accepted


def _receipt(origin: FileOrigin, files: Sequence[FileEntry]) -> Receipt:
    match = _NAME.fullmatch(Path(files[0].path).name)
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


def _name(receipt: Receipt) -> Name:
    return receipt.stage, receipt.unit
