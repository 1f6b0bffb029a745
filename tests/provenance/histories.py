"""A run played without engines: tasks -> committed units, some of which a test then takes away."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.lineage import selection_faults
from orca2_gen.records import (
    Example,
    Message,
    Problem,
    Rationale,
    Rejection,
    Selection,
    StudentScore,
)
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt, UnitName, read_unit, write_unit
from orca2_gen.selection.blocks import (
    SURVIVORS,
    Block,
    Group,
    Rule,
    block_unit,
    group_name,
    open_blocks,
)
from orca2_gen.selection.decision import next_step, survivor_bits
from ray_jobs.file_stages import _chunks
from ray_jobs.units import groups, survivors_by_block

Units = dict[tuple[str, str], Receipt]
BAD = "bad"
"""Category of a row that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What the rows of a run follow from, but for what its engines say."""

    tasks: Mapping[str, Sequence[str]]
    """Task -> the category of each of its rows."""
    rule: Rule
    select_by: str
    rows_per_unit: int = 4

    def problems(self, run_dir: Path) -> Units:
        """The units of problems, which come out the same whenever they are read."""
        found: Units = {}
        for task, categories in self.tasks.items():
            rows = (row_of(task, number, kind) for number, kind in enumerate(categories))
            for unit, group, chunk in _chunks(task, rows, self.rows_per_unit, self.select_by):
                rejected = [row for row in chunk if isinstance(row, Rejection)]
                accepted = [row for row in chunk if isinstance(row, Problem)]
                name = named("problems", unit, group)
                assert all(group_name(row, self.select_by) == group for row in accepted)
                found["problems", unit] = write_unit(run_dir, name, accepted, Problem, rejected)
        return found

    def go_on(self, run_dir: Path, kept: Units, salt: str) -> Ledger:
        """The ledger after a driver made what is missing, by engines that answer by the salt."""
        units = self.problems(run_dir) | kept
        by_group: dict[str, list[Receipt]] = {}
        for _, receipt in sorted((n, r) for n, r in units.items() if n[0] == "problems"):
            by_group.setdefault(receipt.group, []).append(receipt)
        for group in groups(by_group):
            ids = ids_of(run_dir, by_group[group.name])
            self._score(run_dir, group, ids, units, salt)
            self._select(run_dir, group, units)
            [chosen] = read_records(run_dir, units["selections", group.stem].accepted, Selection)
            for receipt in by_group[group.name]:
                _teach(run_dir, receipt, chosen.strategy, units, salt)
        return Ledger(run_dir=run_dir, writable=False, units=units)

    def blocks(self, group: Group, units: Units) -> dict[int, Receipt]:
        names = ((index, ("scores", block_unit(group, index))) for index in range(99))
        return {index: units[name] for index, name in names if name in units}

    def _score(self, run_dir: Path, group: Group, ids: list[str], units: Units, salt: str) -> None:
        rule = self.rule.of(group)
        while left := open_blocks(group, rule, survivors_by_block(self.blocks(group, units), rule)):
            for block in left:
                rows, lost = answers(block, ids, salt)
                made = {
                    index: read_records(run_dir, receipt.accepted, StudentScore)
                    for index, receipt in self.blocks(group, units).items()
                    if index < block.index
                }
                name = named("scores", block_unit(group, block.index), group.name, salt)
                bits = survivor_bits(group, rule, {**made, block.index: rows})
                counts = {SURVIVORS: bits} if rule.is_race else {}
                units["scores", name.unit] = write_unit(
                    run_dir, name, rows, StudentScore, lost, counts
                )

    def _select(self, run_dir: Path, group: Group, units: Units) -> None:
        if ("selections", group.stem) in units:
            return
        scored = {
            index: read_records(run_dir, receipt.accepted, StudentScore)
            for index, receipt in self.blocks(group, units).items()
        }
        step = next_step(group, self.rule.of(group), scored)
        assert isinstance(step, Selection), f"{group.name} has an open block and no driver sees it"
        name = named("selections", group.stem, group.name)
        units["selections", group.stem] = write_unit(run_dir, name, [step], Selection)

    def faults(self, ledger: Ledger) -> list[str]:
        """What `verify` would say of how the units of a finished run fit together."""
        found = []
        receipts = ledger.committed("problems")
        num_groups = len({receipt.group for receipt in receipts if receipt.accepted.rows})
        for receipt in ledger.committed("selections"):
            [chosen] = read_records(ledger.run_dir, receipt.accepted, Selection)
            group = Group(
                name=chosen.group, num_problems=chosen.num_problems, num_groups=num_groups
            )
            found += selection_faults(ledger, self.rule.of(group), chosen, group)
            committed = sum(r.accepted.rows for r in receipts if r.group == chosen.group)
            if committed != chosen.num_problems:
                found.append(f"{chosen.group} was selected from {chosen.num_problems} problems")
            for taught in ledger.committed("rationales"):
                rows = read_records(ledger.run_dir, taught.accepted, Rationale)
                if taught.group == chosen.group:
                    found += [
                        f"{row.problem_id} was taught {row.strategy}, {chosen.strategy} was chosen"
                        for row in rows
                        if row.strategy != chosen.strategy
                    ]
        for receipt in ledger.committed("examples"):
            taught_unit = ledger.units["rationales", receipt.unit]
            texts = {
                row.problem_id: row.text
                for row in read_records(ledger.run_dir, taught_unit.accepted, Rationale)
            }
            made = read_records(ledger.run_dir, receipt.accepted, Example)
            if texts != {row.problem_id: row.messages[-1].content for row in made}:
                found.append(f"examples/{receipt.unit} holds other words than its rationales")
        return found

    def late(self, run_dir: Path, units: Units, receipt: Receipt) -> Receipt:
        """Another attempt at a unit that an engine made of the same units before it."""
        rows: list[Any]
        counts = {}
        if receipt.stage == "rationales":
            rows = read_records(run_dir, receipt.accepted, Rationale)
            rows = [dataclasses.replace(row, text=f"{row.problem_id} late") for row in rows]
            record: type = Rationale
        else:
            record = StudentScore
            rows = read_records(run_dir, receipt.accepted, StudentScore)
            rows = [_score_of(row.problem_id, row.strategy, "late") for row in rows]
        _, lost = read_unit(run_dir, receipt, record)
        if SURVIVORS in receipt.counts:
            problems = {n: r for n, r in sorted(units.items()) if n[0] == "problems"}
            by_group: dict[str, list[Receipt]] = {}
            for each in problems.values():
                by_group.setdefault(each.group, []).append(each)
            group = next(g for g in groups(by_group) if g.name == receipt.group)
            index = int(receipt.unit.rpartition("-")[2])
            blocks = {
                number: read_records(run_dir, made.accepted, StudentScore)
                for number, made in self.blocks(group, units).items()
                if number < index
            }
            counts = {SURVIVORS: survivor_bits(group, self.rule, {**blocks, index: rows})}
        name = dataclasses.replace(
            named(receipt.stage, receipt.unit, receipt.group, "late"), attempt=2
        )
        return write_unit(run_dir, name, rows, record, lost, counts)


def row_of(task: str, number: int, kind: str) -> Problem | Rejection:
    id_ = f"{task}/{number}"
    if kind == BAD:
        return Rejection(problem_id=id_, stage="problems", reason="r", detail="")
    return Problem(
        problem_id=id_, task=task, question="?", target="1", answer_type="numeric", category=kind
    )


def named(stage: str, unit: str, group: str, salt: str = "") -> UnitName:
    driver = salt.encode().hex() or "0"
    return UnitName(stage=stage, stage_key="k", unit=unit, group=group, driver=driver)


def ids_of(run_dir: Path, receipts: Iterable[Receipt]) -> list[str]:
    return [p.problem_id for r in receipts for p in read_records(run_dir, r.accepted, Problem)]


def answers(
    block: Block, ids: Sequence[str], salt: str
) -> tuple[list[StudentScore], list[Rejection]]:
    """The scores of a block, and a rejection of each problem that its engine died of."""
    wanted = [ids[number] for number in block.problems]
    dead = [id_ for id_ in wanted if random.Random(f"dead {id_} {salt}").random() < 0.03]
    rows = [
        _score_of(id_, strategy, salt)
        for strategy in block.strategies
        for id_ in wanted
        if id_ not in dead
    ]
    return rows, [
        Rejection(problem_id=id_, stage="scores", reason="engine_died", detail="") for id_ in dead
    ]


def _score_of(id_: str, strategy: str, salt: str) -> StudentScore:
    # Each salt has favourites of its own, so that a choice often comes out otherwise.
    skill = random.Random(f"{strategy} {salt}").choice([0.1, 0.4, 0.5, 0.9])
    is_right = random.Random(f"{id_} {strategy} {salt}").random() < skill
    return StudentScore(
        problem_id=id_,
        task=id_.partition("/")[0],
        strategy=strategy,
        role="student",
        attempt=0,
        outcome="correct" if is_right else "incorrect",
        score=float(is_right),
        answer="",
        text=salt,
        finish_reason="stop",
        num_prompt_tokens=1,
        num_cached_tokens=0,
        num_completion_tokens=1,
    )


def _teach(run_dir: Path, receipt: Receipt, strategy: str, units: Units, salt: str) -> None:
    """Makes the rationales and examples of a unit of problems, if it has some."""
    if not receipt.accepted.rows:
        return
    unit = receipt.unit
    if ("rationales", unit) not in units:
        rows = [
            Rationale(
                problem_id=id_,
                task=id_.partition("/")[0],
                strategy=strategy,
                attempt=0,
                system="",
                user="?",
                text=f"{id_} {salt}",
                answer="",
                num_prompt_tokens=1,
                num_completion_tokens=1,
            )
            for id_ in ids_of(run_dir, [receipt])
        ]
        name = named("rationales", unit, receipt.group, salt)
        units["rationales", unit] = write_unit(run_dir, name, rows, Rationale)
    if ("examples", unit) not in units:
        taught = read_records(run_dir, units["rationales", unit].accepted, Rationale)
        name = named("examples", unit, receipt.group, salt)
        units["examples", unit] = write_unit(run_dir, name, [_example(r) for r in taught], Example)


def _example(rationale: Rationale) -> Example:
    return Example(
        problem_id=rationale.problem_id,
        task=rationale.task,
        strategy=rationale.strategy,
        messages=(
            Message(role="system", content=""),
            Message(role="user", content=rationale.user),
            Message(role="assistant", content=rationale.text),
        ),
        input_ids=(1,),
        num_prompt_tokens=1,
    )


RULE = Rule(
    policy="student_best",
    strategies=("a", "b", "c"),
    method="race",
    delta=0.3,
    scored_problems=40,
    block_size=6,
    open_requests=1,
    indifference=0.0,
    none_solved="a",
    cautious_arm=False,
    run_seed=0,
)


def with_rule(**changes: object) -> Rule:
    return dataclasses.replace(RULE, **changes)  # type: ignore[arg-type]


def drawn(draw: random.Random) -> History:
    """A history of one to three tasks; with few groups, its blocks are larger than `block_size`."""
    rule = with_rule(
        method=draw.choice(["race", "race", "full_grid"]),
        scored_problems=draw.choice([12, 40]),
        open_requests=draw.choice([1, 40, 60, 90]),
        cautious_arm=draw.random() < 0.2,
        run_seed=draw.randrange(9),
    )
    # Runs of one kind, so that some unit holds rejections alone.
    kinds = {
        task: [draw.choice(["", "x", "y", BAD]) for _ in range(draw.randint(1, 4))]
        for task in draw.sample(["sums", "letters", "tiny"], draw.randint(1, 3))
    }
    tasks = {
        task: [kind for kind in of_task for _ in range(draw.randint(1, 12))]
        for task, of_task in kinds.items()
    }
    return History(tasks=tasks, rule=rule, select_by=draw.choice(["task", "category"]))


def lost_units(history: History, whole: Units, draw: random.Random) -> set[tuple[str, str]]:
    """Units to be taken away: some anywhere, and some so that they leave no trace."""
    chance = draw.choice([0.0, 0.05, 0.3])
    gone = {name for name in sorted(whole) if draw.random() < chance}
    if draw.random() < 0.7:
        gone |= {name for name in whole if name[0] == "selections"}
    if draw.random() < 0.6:  # the end of a task
        task, first = draw.choice(sorted(history.tasks)), draw.randint(0, 3)
        gone |= {
            (stage, unit)
            for stage, unit in whole
            if stage in ("problems", "rationales", "examples")
            and unit.rpartition("-")[0] == task
            and int(unit.rpartition("-")[2]) >= first
        }
    if draw.random() < 0.4:  # a whole group
        group = draw.choice(sorted({receipt.group for receipt in whole.values()}))
        stages = draw.choice([("problems", "rationales", "examples"), tuple(RECORDS)])
        gone |= {n for n, r in whole.items() if r.group == group and r.stage in stages}
    if draw.random() < 0.4:  # the last blocks
        first = draw.randint(1, 3)
        gone |= {
            (stage, unit)
            for stage, unit in whole
            if stage == "scores" and int(unit.rpartition("-")[2]) >= first
        }
    return gone
