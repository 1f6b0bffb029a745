"""Start a run beside another: what would come out the same is taken over, the rest is left
behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca2_gen.ledger import Ledger, Receipt, read_ledger
from orca2_gen.shards import inside


def fork_run(source: Path, target: Path, keys: Mapping[str, str]) -> list[str]:
    """Takes over the source's committed units whose stage key is in `keys`; returns their stages.

    Files are hard links where the file system allows, so a fork costs no space: committed files
    never change.

    Raises:
        ValueError: the target has commits already.
    """
    before, after = read_ledger(source), read_ledger(target, writable=True)
    if not before.units:
        raise ValueError(
            f"{source} holds no committed unit; give the directory of a run to fork from"
        )
    if after.units and all(fits(r, keys) for r in after.units.values()):
        return []  # the same command, once more
    if after.units:
        raise ValueError(
            f"{target} has commits already; fork into a new directory, or run it without --fork"
        )
    return take_over(before, after, [r for r in before.units.values() if fits(r, keys)])


def fits(receipt: Receipt, keys: Mapping[str, str]) -> bool:
    """Whether a unit would come out the same under these stage keys."""
    return keys.get(receipt.stage) == receipt.stage_key


def take_over(before: Ledger, after: Ledger, receipts: Sequence[Receipt]) -> list[str]:
    """Links these units of one run into another and commits them; returns their stages."""
    for receipt in receipts:
        for entry in receipt.files:
            destination = after.run_dir / entry.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            _link(inside(before.run_dir, entry.path), destination)
    after.run_dir.mkdir(parents=True, exist_ok=True)
    after.commit(receipts)
    return list(dict.fromkeys(receipt.stage for receipt in receipts))


def _link(source: Path, destination: Path) -> None:
    destination.unlink(missing_ok=True)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
