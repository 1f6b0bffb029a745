"""A run started beside another, which takes over the units that would come out the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.provenance.stage_keys import PREVIOUS
from orca2_gen.run_directory.arrow_files import DamagedFile, check_file, inside
from orca2_gen.run_directory.claim import no_run
from orca2_gen.run_directory.durable_files import sync_directory, write_bytes
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import EVALUATIONS, STAGES, Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """The units taken over from another run."""

    stages: tuple[str, ...]
    """Stages of the units, in the order of the source's commits."""
    damaged: tuple[str, ...] = ()
    """A line for each damaged unit, left behind with all that was made from it."""


def fork_run(source: Path, target: Ledger, keys: Mapping[str, str]) -> Fork:
    """Takes over the source's committed units whose stage key is in `keys`.

    Damaged units and all that was made from them are left behind: so a run with a damaged file
    continues. Files are hard links where the file system allows, so a fork costs no space:
    committed files never change. A target that holds some of these units and nothing else is a fork
    that was cut short, and receives the others. A target with units of its own is left as it is.

    Raises:
        ValueError: the source holds no unit, or the target holds units made under other keys.
    """
    before = read_ledger(source)
    if not before.units:
        raise no_run(source)
    # Evaluations have keys of their own, of the model that was evaluated.
    keyed = [receipt for receipt in target.units.values() if receipt.stage in PREVIOUS]
    if not all(fits(receipt, keys) for receipt in keyed):
        raise ValueError(
            f"{target.run_dir} has commits already; fork into a new directory, or run it without "
            f"--fork"
        )
    if any(before.units.get(name) != receipt for name, receipt in target.units.items()):
        return Fork(stages=())  # the same command again
    left = {n: r for n, r in before.units.items() if fits(r, keys) and n not in target.units}
    damaged = {name: line for name, receipt in left.items() if (line := _damage(before, receipt))}
    wanted = [r for r in left.values() if not any(_falls_with(r, left[name]) for name in damaged)]
    target.write_tip()  # if it ends before its commit, files without a ledger would be damage
    take_over(before, target, wanted)
    stages = tuple(dict.fromkeys(receipt.stage for receipt in wanted))
    return Fork(stages=stages, damaged=tuple(damaged.values()))


def fits(receipt: Receipt, keys: Mapping[str, str]) -> bool:
    """Whether a unit would come out the same under these stage keys."""
    return keys.get(receipt.stage) == receipt.stage_key


def take_over(before: Ledger, after: Ledger, receipts: Sequence[Receipt]) -> None:
    """Links these units of one run into another, durably, and commits them."""
    folders = set()
    for receipt in receipts:
        for entry in receipt.files:
            destination = after.run_dir / entry.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            folders.add(destination.parent)
            _link(inside(before.run_dir, entry.path), destination)
    for folder in sorted(folders):
        sync_directory(folder)
    if receipts:
        after.commit(receipts)


def _damage(ledger: Ledger, receipt: Receipt) -> str:
    """The first fault in a unit's files; empty if there is none."""
    try:
        for entry in receipt.files:
            check_file(ledger.run_dir, entry)
    except DamagedFile as error:
        return str(error)
    return ""


def _falls_with(receipt: Receipt, damaged: Receipt) -> bool:
    """Whether a unit is the damaged one, or was made from it and might now come out differently."""
    if damaged.stage in ("scores", "judgements"):  # a race's next block depends on those before
        later = STAGES[STAGES.index(damaged.stage) : STAGES.index("examples") + 1]
        return receipt.group == damaged.group and receipt.stage in later
    is_same = receipt.unit == damaged.unit
    if damaged.stage == "rationales":
        return is_same and receipt.stage in ("rationales", "examples")
    if damaged.stage == "evaluation":
        return is_same and receipt.stage in EVALUATIONS
    # Units that no engine makes come out as before.
    return is_same and receipt.stage == damaged.stage


def _link(source: Path, destination: Path) -> None:
    destination.unlink(missing_ok=True)
    try:
        os.link(source, destination)
    except OSError:  # another file system
        write_bytes(destination, source.read_bytes())
