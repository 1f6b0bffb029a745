"""A run whose ledger is damaged or lost -> the ledger that its files prove.

A unit is taken over only if it is proved (proofs.py), and all that it was made from is proved too
or comes out the same again (standing.py): otherwise a resumed run would put rows beside it that do
not belong to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.load import read_config
from orca2_gen.provenance.proofs import Name, find_proofs
from orca2_gen.provenance.recorded import Recorded, read_recorded
from orca2_gen.provenance.stage_keys import PREVIOUS
from orca2_gen.provenance.standing import standing_units
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.ledger import Ledger, Tip, read_ledger, stage_key
from orca2_gen.run_directory.ledger_lines import DamagedLedger, encoded_lines
from orca2_gen.run_directory.lock import run_lock
from orca2_gen.run_directory.units import STAGES, Receipt
from orca2_gen.run_directory.unlisted import keep_copy, set_aside, set_aside_unlisted
from orca2_gen.strategies import load_strategies


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
        OSError: its ledger cannot be read now, which is no damage.
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
    proofs = find_proofs(
        run_dir, _keys(recorded), held_out={task.name for task in config.evaluation.tasks}
    )
    kept = standing_units(
        Ledger(run_dir=run_dir, writable=False, units=proofs.units),
        selection_rule(config, strategies),
        lost=proofs.lost,
        by_task=config.selection.select_by == "task",
    )
    receipts = sorted(kept.values(), key=lambda each: (STAGES.index(each.stage), each.unit))
    return Recovery(
        damage=damage,
        receipts=tuple(receipts),
        num_listed=len(kept.keys() & proofs.listed),
        unproved=tuple(proofs.unproved),
        fallen=tuple(sorted(proofs.units.keys() - kept.keys())),
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
            units={(each.stage, each.unit): each for each in plan.receipts},
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


def _keys(recorded: Recorded) -> dict[str, str]:
    """The keys of the stages that config.json records, each with all stages before it."""
    keys: dict[str, str] = {}
    for stage, previous in PREVIOUS.items():
        if stage in recorded.stages and (not previous or previous in keys):
            keys[stage] = stage_key(keys.get(previous, ""), recorded.stages[stage])
    return keys
