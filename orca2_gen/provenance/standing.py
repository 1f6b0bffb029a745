"""Some units of a run -> those of them that a resumed run can build on.

A unit that no engine makes comes out the same again, so nothing falls with it. What an engine made
may come out otherwise: the blocks of a race after a missing one fall, and so do the rationales of a
group whose choice can no longer be derived, and the examples of missing rationales.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping

from orca2_gen.records import Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import OPEN, Block, Group, Rule, block_unit
from orca2_gen.selection.decision import next_step

Units = dict[tuple[str, str], Receipt]


def standing_units(proved: Ledger, rule: Rule) -> Units:
    """The units to build on, by stage and unit.

    Args:
        proved: units whose files are known to be what was written.
        rule: the run's rule of selection.
    """
    by_group: dict[str, Units] = defaultdict(dict)
    kept: Units = {}
    for unit, receipt in proved.units.items():
        if receipt.stage in ("scores", "judgements", "selections", "rationales", "examples"):
            by_group[receipt.group][unit] = receipt
        else:
            kept[unit] = receipt
    sizes = {name: _size(proved, name, units) for name, units in by_group.items()}
    for receipt in proved.committed("problems"):
        sizes.setdefault(receipt.group, _size(proved, receipt.group, {}))
    num_groups = sum(size is None or size > 0 for size in sizes.values())
    for name, units in by_group.items():
        group = Group(
            name=name,
            num_problems=sizes[name] or 0,
            num_groups=num_groups,
            is_judged=any(
                receipt.counts.get(OPEN)
                for receipt in proved.committed("problems")
                if receipt.group == name
            )
            or any(stage == "judgements" for stage, _ in units),
        )
        kept |= _standing_of_group(proved, units, group, rule.of(group), sizes[name] is not None)
    return kept


def _size(proved: Ledger, group: str, units: Units) -> int | None:
    """The number of a group's problems; None if some of their units may be missing."""
    for (stage, _), receipt in units.items():
        if stage == "selections":
            [selection] = read_records(proved.run_dir, receipt.accepted, Selection)
            return selection.num_problems
    problems = [receipt for receipt in proved.committed("problems") if receipt.group == group]
    taught = {unit for stage, unit in units if stage == "rationales"}
    numbers: dict[str, set[int]] = defaultdict(set)
    for receipt in proved.committed("problems"):
        task, _, number = receipt.unit.rpartition("-")
        numbers[task].add(int(number))
    tasks = {receipt.unit.rpartition("-")[0] for receipt in problems}
    has_gap = any(max(numbers[task]) + 1 > len(numbers[task]) for task in tasks)
    if has_gap or not problems or taught - {receipt.unit for receipt in problems}:
        return None
    return sum(receipt.accepted.rows for receipt in problems)


def _standing_of_group(
    proved: Ledger, units: Units, group: Group, rule: Rule, is_known: bool
) -> Units:
    """The units of one group to build on; `is_known` says whether its size is."""
    decisive = "judgements" if group.is_judged else "scores"
    whole: dict[str, Mapping[int, Receipt]] = {}
    for stage in ("scores", "judgements"):
        # Blocks of a full grid are independent; in a race each one follows from those before it.
        numbered = _blocks(units, stage, group)
        in_turn = itertools.takewhile(numbered.__contains__, itertools.count())
        whole[stage] = {i: numbered[i] for i in in_turn} if rule.is_race else numbered
    kept = {("scores", receipt.unit): receipt for receipt in whole["scores"].values()}
    judged = {i: r for i, r in whole["judgements"].items() if i in whole["scores"]}
    kept |= {("judgements", receipt.unit): receipt for receipt in judged.values()}
    blocks = judged if decisive == "judgements" else whole["scores"]
    step = _step(proved, group, rule, blocks) if is_known else None
    if not isinstance(step, Selection):
        return kept
    for name, receipt in units.items():
        if receipt.stage == "selections":
            if read_records(proved.run_dir, receipt.accepted, Selection) == [step]:
                kept[name] = receipt
        elif receipt.stage == "rationales":
            rows = read_records(proved.run_dir, receipt.accepted, Rationale)
            if all(row.strategy == step.strategy for row in rows):
                kept[name] = receipt
    examples = {name: r for name, r in units.items() if r.stage == "examples"}
    return kept | {
        name: receipt for name, receipt in examples.items() if ("rationales", name[1]) in kept
    }


def _blocks(units: Units, stage: str, group: Group) -> dict[int, Receipt]:
    found = {}
    for (of_stage, unit), receipt in units.items():
        number = unit.rpartition("-")[2]
        if of_stage == stage and number.isdigit() and unit == block_unit(group, int(number)):
            found[int(number)] = receipt
    return found


def _step(
    proved: Ledger, group: Group, rule: Rule, blocks: Mapping[int, Receipt]
) -> Block | Selection:
    """The next step of a group after these blocks."""
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(group, rule, scored)
    while isinstance(step, Block) and step.index in blocks and step.index not in scored:
        entry = blocks[step.index].accepted
        scored[step.index] = read_records(proved.run_dir, entry, StudentScore)
        step = next_step(group, rule, scored)
    return step
