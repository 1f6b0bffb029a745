"""Another run's rationales: the leases that go through them again, and the lines about them."""

from __future__ import annotations

from collections.abc import Iterator

from orca2_gen.provenance.regrade import Source
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.stored_answers import read_answers
from ray_jobs.dispatch.leases import UnitLease
from ray_jobs.dispatch.unit_receipts import NOW_ACCEPTED, NOW_REFUSED, REGRADED
from ray_jobs.regrading.leases import Older, TaughtUnit
from ray_jobs.run import Run
from ray_jobs.units import Problems, groups, unit_name


def reteach_leases(run: Run, problems: Problems, older: Older) -> list[UnitLease[TaughtUnit]]:
    """The leases of units that another run taught and this one has not, of decided groups."""
    leases = []
    for group in groups(problems):
        selection = run.ledger.units.get(("selections", group.stem))
        for receipt in problems[group.name] if selection is not None else ():
            is_made = ("rationales", receipt.unit) in run.ledger.units
            stored = older.taught(receipt.unit)
            if is_made or not stored or not receipt.accepted.rows or selection is None:
                continue
            unit = TaughtUnit(
                source=older.ledger.run_dir,
                problems=receipt.accepted,
                selection=selection.accepted,
                stored=tuple(stored),
            )
            name = unit_name(run, "rationales", receipt.unit, group.name)
            what = f"going through the rationales of {receipt.unit} of {unit.source} again"
            leases.append(UnitLease(name=name, made_from=unit, what=what))
    return leases


def teaching_lines(run: Run, source: Source, problems: Problems) -> Iterator[str]:
    """Lines for people: what was carried over without the teacher, and what is left to it."""
    stored = source.ledger.committed("rationales")
    if not stored:
        return
    if source.teaching:
        yield (
            "rationales: the teacher is another one or asked differently, so `orca2 run` asks it: "
            f"{source.teaching}"
        )
        return
    made = [r for r in run.ledger.committed("rationales") if REGRADED in r.counts]
    num, now_refused, now_accepted = (
        sum(receipt.counts[name] for receipt in made)
        for name in (REGRADED, NOW_REFUSED, NOW_ACCEPTED)
    )
    yield (
        f"rationales: {len(made)} of {len(stored)} units carried over without the teacher "
        f"({num} problems; accepted and now refused: {now_refused}, refused and now accepted: "
        f"{now_accepted})"
    )
    waiting = [
        receipt
        for receipts in problems.values()
        for receipt in receipts
        if receipt.accepted.rows and ("rationales", receipt.unit) not in run.ledger.units
    ]
    if waiting:
        num_open = sum(_num_open(run, receipt.unit, receipt.accepted.rows) for receipt in waiting)
        yield (
            f"rationales: open for the teacher: {num_open} problems of {len(waiting)} units; "
            "`orca2 run` asks it for the answers that are not stored"
        )


def _num_open(run: Run, unit: str, num_problems: int) -> int:
    """The problems of a unit that is not committed to which an answer is missing."""
    try:
        found = read_answers(run.run_dir, unit, run.keys["rationales"])
    except DamagedFile:
        found = None
    return found.num_open if found is not None else num_problems
