"""Some units of a run -> those of them that a resumed run can build on.

A unit that no engine makes comes out the same again, so nothing falls with it. What an engine made
may come out otherwise: the blocks of a race after a missing one fall, and so do the rationales of a
group whose choice can no longer be derived, and the examples of missing rationales.

A choice rests on all of its group's problems, and on how many groups there are. A lost unit of
problems may leave no trace, so each block is compared with the one that these numbers give: with
others, its problems are others.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orca2_gen.provenance.lineage import follows_from_scores, is_block
from orca2_gen.provenance.teaching_faults import follows_from_rationales
from orca2_gen.records import Problem, Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records, read_table
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt, stem_and_number
from orca2_gen.selection.blocks import (
    OPEN,
    SURVIVORS,
    Block,
    Group,
    Rule,
    survivors_of,
)
from orca2_gen.selection.decision import next_step, survivor_bits
from orca2_gen.strategies import CAUTIOUS

Units = dict[tuple[str, str], Receipt]
Blocks = dict[int, Receipt]
_MADE = ("scores", "judgements", "selections", "rationales", "examples")


@dataclass(kw_only=True, slots=True)
class _Members:
    """The proved units of one selection group, in the order of their names."""

    problems: list[Receipt] = field(default_factory=list)
    made: dict[str, dict[str, Receipt]] = field(default_factory=lambda: {s: {} for s in _MADE})
    """Later stage -> unit -> its Receipt."""

    @property
    def num_problems(self) -> int:
        return sum(receipt.accepted.rows for receipt in self.problems)


def standing_units(proved: Ledger, rule: Rule, *, lost: Mapping[str, str], by_task: bool) -> Units:
    """The units to build on, by stage and unit.

    Args:
        proved: units whose files are known to be what was written.
        rule: the run's rule of selection.
        lost: unit of problems that is known to have been there and is not proved -> its group;
            empty if that is not known.
        by_task: whether each task is a group of its own.
    """
    groups: dict[str, _Members] = defaultdict(_Members)
    kept: Units = {}
    for unit, receipt in sorted(proved.units.items()):
        if receipt.stage in _MADE:
            groups[receipt.group].made[receipt.stage][receipt.unit] = receipt
            continue
        if receipt.stage == "evaluation_judgements" and not (
            ("evaluation", receipt.unit) in proved.units and follows_from_scores(proved, receipt)
        ):
            continue
        kept[unit] = receipt
        if receipt.stage == "problems":
            groups[receipt.group].problems.append(receipt)
    unsure = _unsure(groups, lost, by_task)
    sizes = {name: _size(proved, members, name in unsure) for name, members in groups.items()}
    num_groups = sum(
        bool(members.num_problems or any(members.made.values()) if size is None else size)
        for (name, members), size in zip(groups.items(), sizes.values(), strict=True)
    )
    for name, members in groups.items():
        group = Group(
            name=name,
            num_problems=sizes[name] or 0,
            num_groups=num_groups,
            is_judged=bool(members.made["judgements"])
            or any(receipt.counts.get(OPEN) for receipt in members.problems),
        )
        found = _standing_of_group(proved, members, group, rule.of(group), sizes[name] is not None)
        kept |= {(receipt.stage, receipt.unit): receipt for receipt in found}
    return kept


def _unsure(groups: Mapping[str, _Members], lost: Mapping[str, str], by_task: bool) -> set[str]:
    """The groups that are known to have had more problems than are proved."""
    proved = {
        stem_and_number(receipt.unit) for each in groups.values() for receipt in each.problems
    }
    # Nothing is made from problems that were not there.
    later = {
        unit: name
        for name, members in groups.items()
        for stage in ("rationales", "examples")
        for unit in members.made[stage]
    }
    there = {stem_and_number(unit): name for unit, name in {**lost, **later}.items()}
    numbers: dict[str, set[int]] = defaultdict(set)
    for task, number in [*proved, *there]:
        numbers[task].add(number)
    found = {
        name or (task if by_task else "")
        for (task, number), name in there.items()
        if (task, number) not in proved
    }
    # The units of a task are numbered without a gap; a unit may be of any category.
    found |= {
        task if by_task else "" for task, given in numbers.items() if max(given) + 1 > len(given)
    }
    return set(groups) if "" in found else found


def _size(proved: Ledger, members: _Members, is_unsure: bool) -> int | None:
    """The number of a group's problems; None if it is not known."""
    for receipt in members.made["selections"].values():
        selections = read_records(proved.run_dir, receipt.accepted, Selection)
        if len(selections) == 1 and selections[0].num_problems >= members.num_problems:
            return selections[0].num_problems
    return None if is_unsure or not members.problems else members.num_problems


def _standing_of_group(
    proved: Ledger, members: _Members, group: Group, rule: Rule, is_known: bool
) -> Iterator[Receipt]:
    """The made units of one group to build on; `is_known` says whether its size is."""
    scores = _blocks(members, "scores", group)
    # Blocks of a full grid are independent; in a race each one follows from those before it.
    kept = dict(_in_turn(proved, scores, rule)) if rule.is_race else scores
    judged = {
        index: receipt
        for index, receipt in _blocks(members, "judgements", group).items()
        if index in kept and follows_from_scores(proved, receipt)
    }
    step: Selection | None = None
    if not rule.needs_scores:
        only = next_step(group, rule, {})
        step = only if isinstance(only, Selection) else None
    elif is_known:
        decisive, step = _decided(proved, members, group, rule, judged if group.is_judged else kept)
        kept = kept if group.is_judged else decisive
        step = step if len(decisive) == len(scores) else None  # else it rests on others too
    yield from kept.values()
    yield from judged.values()
    if step is None:
        return
    for receipt in members.made["selections"].values():
        if read_records(proved.run_dir, receipt.accepted, Selection) == [step]:
            yield receipt
    for unit, receipt in members.made["rationales"].items():
        rows = read_records(proved.run_dir, receipt.accepted, Rationale)
        if all(row.strategy == step.strategy for row in rows):
            yield receipt
            example = members.made["examples"].get(unit)
            if example is not None and follows_from_rationales(proved, example):
                yield example


def _blocks(members: _Members, stage: str, group: Group) -> Blocks:
    found = {}
    for unit, receipt in members.made[stage].items():
        stem, number = stem_and_number(unit)
        if stem == group.stem:
            found[number] = receipt
    return found


def _in_turn(proved: Ledger, blocks: Blocks, rule: Rule) -> Iterator[tuple[int, Receipt]]:
    """The blocks of a race without a gap, each under the strategies that the one before left."""
    left = rule.strategies
    for index in itertools.count():
        receipt = blocks.get(index)
        if receipt is None or len(left) == 1:
            return
        rows = read_records(proved.run_dir, receipt.accepted, StudentScore)
        asked = tuple(dict.fromkeys(row.strategy for row in rows))
        if rows and asked != ((*left, CAUTIOUS) if rule.cautious_arm else left):
            return
        if SURVIVORS not in receipt.counts or not survivors_of(receipt, rule):
            return
        left = survivors_of(receipt, rule)
        yield index, receipt


def _decided(
    proved: Ledger, members: _Members, group: Group, rule: Rule, blocks: Blocks
) -> tuple[Blocks, Selection | None]:
    """The blocks that stand, and the Selection that follows from all of them.

    There is none if more blocks are needed, or if these are not the blocks of such a group: then
    its size, or the number of groups, is not what it was.
    """
    ids: Sequence[str] | None = None
    if blocks and members.num_problems == group.num_problems:
        tables = (read_table(proved.run_dir, r.accepted, Problem) for r in members.problems)
        ids = [id_ for table in tables for id_ in table["problem_id"].to_pylist()]
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(group, rule, scored)
    while isinstance(step, Block) and step.index in blocks and step.index not in scored:
        receipt = blocks[step.index]
        rows = read_records(proved.run_dir, receipt.accepted, StudentScore)
        if not is_block(proved, receipt, step, rows, ids):
            return blocks, None
        scored[step.index] = rows
        if rule.is_race and receipt.counts[SURVIVORS] != survivor_bits(group, rule, scored):
            return {index: blocks[index] for index in range(step.index)}, None
        step = next_step(group, rule, scored)
    # A block that none of these asks for is one of a larger group.
    is_last = isinstance(step, Selection) and len(scored) == len(blocks)
    return blocks, step if isinstance(step, Selection) and is_last else None
