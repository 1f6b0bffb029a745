"""The rest of a stage: committed units -> the units and leases that are not committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orca2_gen.calls import Budget
from orca2_gen.config.arguments import scores_teacher
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.stored_answers import StoredAnswers, read_answers
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import (
    OPEN,
    Block,
    Group,
    Rule,
    block_unit,
    most_blocks,
    open_blocks,
    rows_by_file,
    survivors_of,
)
from ray_jobs.dispatch.leases import (
    DecidedGroup,
    EngineUnit,
    JudgeUnit,
    RaceSoFar,
    Rows,
    ScoreUnit,
    TeachUnit,
    UnitLease,
)
from ray_jobs.run import Run

Problems = Mapping[str, Sequence[Receipt]]
"""Selection group -> receipts of its problems, in the order of reading."""


def committed_problems(run: Run) -> Problems:
    """The receipts of problems of each group of the run, by the names of their units."""
    # A problem's number must not depend on the order of the config's tasks, which is in no stage
    # key.
    found: dict[str, list[Receipt]] = {}
    for receipt in run.ledger.committed("problems"):
        found.setdefault(receipt.group, []).append(receipt)
    return found


def groups(problems: Problems) -> list[Group]:
    """The selection groups with at least one accepted problem."""
    counts = {
        name: sum(receipt.accepted.rows for receipt in receipts)
        for name, receipts in problems.items()
    }
    counts = {name: num for name, num in counts.items() if num}
    return [
        Group(
            name=name,
            num_problems=num,
            num_groups=len(counts),
            is_judged=any(receipt.counts.get(OPEN) for receipt in problems[name]),
        )
        for name, num in counts.items()
    ]


def score_units(run: Run, group: Group, problems: Problems) -> list[EngineUnit]:
    """The group's blocks that can be scored now and are not committed."""
    rule = run.rule.of(group)
    receipts = committed_blocks(run, "scores", group, rule)
    return [
        ScoreUnit(
            name=unit_name(run, "scores", block_unit(group, block.index), group.name),
            rows=problem_rows(problems[group.name], block.problems),
            strategies=block.strategies,
            role="teacher" if scores_teacher(run.config) else "student",
            budget=_scoring_budget(run),
            race=_race_so_far(group, rule, block, receipts) if rule.is_race else None,
        )
        for block in open_blocks(group, rule, survivors_by_block(receipts, rule))
    ]


def judge_units(run: Run, group: Group, problems: Problems) -> list[JudgeUnit]:
    """The group's blocks that are scored and not judged; none if it has nothing to judge."""
    judge = run.config.needed_judge
    if judge is None or not group.is_judged:
        return []
    rule = run.rule.of(group)
    receipts = committed_blocks(run, "scores", group, rule)
    judged = committed_blocks(run, "judgements", group, rule)
    budget = judging_budget(run.config, judge)
    return [
        JudgeUnit(
            name=unit_name(run, "judgements", block_unit(group, block.index), group.name),
            rows=problem_rows(problems[group.name], block.problems),
            scores=receipts[block.index].accepted,
            strategies=block.strategies,
            budget=budget,
        )
        for block in open_blocks(group, rule, survivors_by_block(judged, rule))
        if block.index in receipts
    ]


def judging_budget(config: Config, judge: EngineConfig) -> Budget:
    """The Budget of a judge's reply."""
    return Budget(
        max_tokens=config.judging.max_tokens,
        max_model_len=judge.max_model_len,
        thinking_tokens=judge.thinking_tokens,
    )


def problem_rows(receipts: Sequence[Receipt], numbers: Sequence[int]) -> Rows:
    """The rows of a group's problems, given by their numbers, in the files of these receipts."""
    return rows_by_file([receipt.accepted for receipt in receipts], numbers)


def _scoring_budget(run: Run) -> Budget:
    scored = run.config.teacher if scores_teacher(run.config) else run.config.student
    return Budget(
        max_tokens=run.config.scoring.max_tokens,
        retry_max_tokens=run.config.scoring.most_tokens,
        answer_max_tokens=run.config.scoring.ending_tokens,
        max_model_len=scored.max_model_len,
        thinking_tokens=scored.thinking_tokens,
    )


def is_decided(run: Run, group: Group) -> bool:
    """Whether all blocks that the group's selection needs are committed and, if needed, judged."""
    rule = run.rule.of(group)
    receipts = committed_blocks(run, _decisive(group), group, rule)
    return not open_blocks(group, rule, survivors_by_block(receipts, rule))


def select_leases(run: Run, group: Group) -> list[UnitLease[DecidedGroup]]:
    """The lease of the group's selection, if it is decided and not committed yet."""
    rule = run.rule.of(group)
    name = unit_name(run, "selections", group.stem, group.name)
    if (name.stage, name.unit) in run.ledger.units or not is_decided(run, group):
        return []
    receipts = committed_blocks(run, _decisive(group), group, rule)
    scored = tuple((index, receipt.accepted) for index, receipt in receipts.items())
    decided = DecidedGroup(group=group, rule=rule, blocks=scored)
    return [UnitLease(name=name, made_from=decided, what=f"selecting for {group.name}")]


def survivors_by_block(receipts: Mapping[int, Receipt], rule: Rule) -> dict[int, tuple[str, ...]]:
    """Index of a block -> the strategies still in after it."""
    return {index: survivors_of(receipt, rule) for index, receipt in receipts.items()}


def _decisive(group: Group) -> str:
    """The stage with the rows that a group's selection rests on."""
    return "judgements" if group.is_judged else "scores"


def committed_blocks(run: Run, stage: str, group: Group, rule: Rule) -> dict[int, Receipt]:
    """Index -> receipt of each committed block of a group."""
    if not rule.needs_scores:
        return {}
    units, blocks = run.ledger.units, range(most_blocks(group, rule))
    found = ((index, units.get((stage, block_unit(group, index)))) for index in blocks)
    return {index: receipt for index, receipt in found if receipt is not None}


def _race_so_far(
    group: Group, rule: Rule, block: Block, receipts: Mapping[int, Receipt]
) -> RaceSoFar:
    earlier = tuple(receipts[index].accepted for index in range(block.index))
    return RaceSoFar(group=group, rule=rule, first=block.first, earlier=earlier)


def teach_units(run: Run, group: Group, problems: Problems) -> list[EngineUnit]:
    """The units without rationales of a group whose selection is committed."""
    selection = run.ledger.units["selections", group.stem].accepted
    units: list[EngineUnit] = []
    for receipt in problems[group.name]:
        name = unit_name(run, "rationales", receipt.unit, group.name)
        if (name.stage, name.unit) not in run.ledger.units and receipt.counts["accepted"]:
            stored = _stored(run, name)
            units.append(
                TeachUnit(
                    name=name,
                    problems=receipt.accepted,
                    selection=selection,
                    stored=stored.file if stored is not None else None,
                    stored_engine=stored.engine if stored is not None else "",
                )
            )
    return units


def _stored(run: Run, name: UnitName) -> StoredAnswers | None:
    """Another run's answers to a unit's problems; None if there are none."""
    try:
        return read_answers(run.run_dir, name.unit, name.stage_key)
    except DamagedFile as error:
        run.say(f"{error}; the teacher is asked again for {name.unit}")
        return None


def unit_name(run: Run, stage: str, unit: str, group: str) -> UnitName:
    """The name under which this run makes a unit of a selection group."""
    return UnitName(
        stage=stage, stage_key=run.keys[stage], unit=unit, group=group, driver=run.driver
    )
