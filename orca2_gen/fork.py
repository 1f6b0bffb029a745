"""Start a run beside another: what would come out the same is taken over, the rest is left
behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from orca2_gen.ledger import read_ledger
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
    if after.units and all(keys.get(r.stage) == r.stage_key for r in after.units.values()):
        return []  # the same command, once more
    if after.units:
        raise ValueError(
            f"{target} has commits already; fork into a new directory, or run it without --fork"
        )
    taken = [r for r in before.units.values() if keys.get(r.stage) == r.stage_key]
    for receipt in taken:
        for entry in receipt.files:
            destination = target / entry.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            _link(inside(source, entry.path), destination)
    after.run_dir.mkdir(parents=True, exist_ok=True)
    after.commit(taken)
    return list(dict.fromkeys(receipt.stage for receipt in taken))


def _link(source: Path, destination: Path) -> None:
    destination.unlink(missing_ok=True)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
