"""Committed rows derived again: each choice from its scores, each example from its problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence, Set

from orca2_gen.calls import compose
from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.schema import Config
from orca2_gen.judging import judged
from orca2_gen.provenance.refused_faults import refused_faults
from orca2_gen.provenance.teaching_faults import examples_faults, rationales_faults
from orca2_gen.provenance.unit_rows import lost_in, rows_in, rows_of
from orca2_gen.records import Problem, Selection, StudentScore
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import JUDGEMENTS, Receipt, held_out_unit
from orca2_gen.selection.blocks import OPEN, SURVIVORS, Block, Group, Rule, block_unit, group_name
from orca2_gen.selection.decision import next_step, survivor_bits
from orca2_gen.strategies import Strategies


def lineage_faults(ledger: Ledger, config: Config, strategies: Strategies) -> Iterator[str]:
    """A line for each committed row that does not follow from the rows it was made from.

    Damaged files are skipped here: the check of every file reports them.
    """
    rule = selection_rule(config, strategies)
    open_groups = {r.group for r in ledger.committed("problems") if r.counts.get(OPEN)}
    open_ids: set[str] = set()
    for receipt in ledger.committed("problems"):
        found = rows_in(ledger, receipt, Problem)
        for problem in found:
            if group_name(problem, config.selection.select_by) != receipt.group:
                yield f"problems: {problem.problem_id} does not belong to {receipt.group}"
        ids = [problem.problem_id for problem in found if problem.answer_type == "open"]
        if found and len(ids) != receipt.counts.get(OPEN, 0):
            yield f"problems: {receipt.unit} holds {len(ids)} open problems, not as many as counted"
        open_ids.update(ids)
    chosen: dict[str, str] = {}
    num_groups = len({r.group for r in ledger.committed("problems") if r.accepted.rows})
    unreadable: set[str] = set()
    for receipt in ledger.committed("selections"):
        selections = rows_in(ledger, receipt, Selection)
        if len(selections) != 1:
            unreadable.add(receipt.group)
        for selection in selections:
            chosen[selection.group] = selection.strategy
            group = Group(
                name=selection.group,
                num_problems=selection.num_problems,
                num_groups=num_groups,
                is_judged=selection.group in open_groups,
            )
            yield from selection_faults(ledger, rule.of(group), selection, group)
    for stage in ("scores", "evaluation"):
        for receipt in ledger.committed(stage):
            for score in rows_in(ledger, receipt, StudentScore):
                if not _is_what_its_calls_said(score, strategies):
                    yield (
                        f"{stage}: {score.problem_id} under {score.strategy} is not what its calls "
                        "said"
                    )
    for receipt in ledger.committed("judgements"):
        if receipt.group not in open_groups:
            at = f"judgements: {receipt.unit}"
            yield f"{at} was judged, but no problem of {receipt.group} is open"
        yield from judgement_faults(ledger, receipt, open_ids)
    for receipt in ledger.committed("evaluation_judgements"):
        if (held_out := _open_ids_behind(ledger, receipt)) is not None:
            yield from judgement_faults(ledger, receipt, held_out)
    for receipt in ledger.committed("rationales"):
        if receipt.group not in unreadable:
            strategy = chosen.get(receipt.group)
            yield from rationales_faults(ledger, receipt, strategy, strategies, config.rationales)
            yield from refused_faults(ledger, receipt, strategy, strategies, config.rationales)
    for receipt in ledger.committed("examples"):
        yield from examples_faults(ledger, receipt, config.rationales.thoughts)


def _is_what_its_calls_said(score: StudentScore, strategies: Strategies) -> bool:
    """Whether a score holds its calls' texts and costs, and the ending of the last one."""
    made = score.completions or (score.completion,)
    asked = {(each.problem_id, each.role, each.strategy) for each in made}
    if asked != {(score.problem_id, score.role, score.strategy)}:
        return False
    if score.attempt and not score.completions:
        return False  # a second attempt follows a first
    num_further = len(strategies.further_calls.get(score.strategy, ()))
    endings = {made[-1].finish_reason}
    if made[-1].finish_reason == "stop" and made[-1].call < num_further:
        endings = {"length", "unencodable"}  # of the further call that could not be made
    said = dataclasses.replace(compose(made), finish_reason=score.finish_reason)
    return score.finish_reason in endings and said == score.completion


def unjudged_evaluations(ledger: Ledger) -> set[str]:
    """The units of evaluations with answers to open problems that no judge has read."""
    found = set()
    for receipt in ledger.committed("evaluation"):
        problems = ledger.units.get(("evaluation_problems", held_out_unit(receipt)))
        # A recovered run may have lost its held-out problems, which are read again.
        is_open = problems is not None and problems.counts.get(OPEN)
        is_judged = ("evaluation_judgements", receipt.unit) in ledger.units
        if is_open and receipt.accepted.rows and not is_judged:
            found.add(receipt.unit)
    return found


def _open_ids_behind(ledger: Ledger, receipt: Receipt) -> Set[str] | None:
    """The ids of the open held-out problems that a unit of an evaluation answers; None if the
    problems are absent or damaged, which is told elsewhere.
    """
    problems = ledger.units.get(("evaluation_problems", held_out_unit(receipt)))
    found = rows_in(ledger, problems, Problem) if problems is not None else []
    if not found:
        return None
    return {problem.problem_id for problem in found if problem.answer_type == "open"}


def judgement_faults(ledger: Ledger, receipt: Receipt, open_ids: Set[str]) -> Iterator[str]:
    """A line for each cell of a unit of judgements that is not its score with the judge's reply."""
    stage, of_scores = receipt.stage, JUDGEMENTS[receipt.stage]
    lost = lost_in(ledger, receipt)
    scores = _by_cell(rows_of(ledger, of_scores, receipt.unit, StudentScore))
    wanted = {cell: score for cell, score in scores.items() if score.problem_id not in lost}
    rows = _by_cell(rows_in(ledger, receipt, StudentScore))
    for cell in sorted(rows.keys() - wanted.keys()):
        yield f"{stage}: {' under '.join(cell)} came from nowhere"
    if len(rows) == receipt.accepted.rows:  # else they are damaged
        for cell in sorted(wanted.keys() - rows.keys()):
            yield f"{stage}: {' under '.join(cell)} was scored but is missing"
    for cell in sorted(rows.keys() & wanted.keys()):
        row, score = rows[cell], wanted[cell]
        is_asked = score.problem_id in open_ids and score.outcome == "ungraded"
        if row != (judged(score, row.judgement) if is_asked else score):
            yield f"{stage}: {' under '.join(cell)} does not follow from its score and reply"
        names = {(reply.problem_id, reply.role, reply.strategy) for reply in row.judgement}
        if names - {(score.problem_id, "judge", score.strategy)} or len(row.judgement) > 1:
            yield f"{stage}: {' under '.join(cell)} holds a reply about something else"


def judged_cells(ledger: Ledger, rule: Rule) -> tuple[int, int, int]:
    """Counts of cells in groups with open problems: scored, judged, lost with their problem."""
    open_groups = {r.group for r in ledger.committed("problems") if r.counts.get(OPEN)}
    judgements = ledger.committed("judgements")
    lost = sum(receipt.counts["rejected"] for receipt in judgements)
    return (
        sum(r.counts["accepted"] for r in ledger.committed("scores") if r.group in open_groups),
        sum(receipt.counts["accepted"] for receipt in judgements),
        lost * (len(rule.strategies) + rule.cautious_arm),
    )


def _by_cell(scores: list[StudentScore]) -> dict[tuple[str, str], StudentScore]:
    return {(score.problem_id, score.strategy): score for score in scores}


def selection_faults(
    ledger: Ledger, rule: Rule, selection: Selection, group: Group
) -> Iterator[str]:
    """A line for each way in which a Selection does not follow from its scores or judgements."""
    stage = "judgements" if group.is_judged else "scores"
    problems = [r for r in ledger.committed("problems") if r.group == group.name]
    ids = [p.problem_id for r in problems for p in rows_in(ledger, r, Problem)]
    if len(ids) != group.num_problems:
        return  # damaged, or counted by another check
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(group, rule, scored)
    while isinstance(step, Block) and len(scored) <= step.index:
        unit = block_unit(group, step.index)
        receipt = ledger.units.get((stage, unit))
        scored[step.index] = rows_of(ledger, stage, unit, StudentScore)
        if receipt is not None and len(scored[step.index]) != receipt.accepted.rows:
            return  # damaged
        asked = {score.strategy for score in scored[step.index]}
        if not asked <= set(step.strategies):
            fallen = ", ".join(sorted(asked - set(step.strategies)))
            yield f"{stage}: {unit} holds cells of {fallen}, which had fallen before"
        elif receipt and not is_block(ledger, receipt, step, scored[step.index], ids):
            yield f"{stage}: {unit} does not hold the problems that are next in its group's order"
        if receipt is not None and rule.is_race:
            bits = survivor_bits(group, rule, scored)
            if receipt.counts.get(SURVIVORS) != bits:
                yield f"{stage}: {unit} counts other survivors than its scores leave"
        step = next_step(group, rule, scored)
    if step != selection:
        yield f"selections: {selection.group} does not follow from its committed {stage}"


def is_block(
    ledger: Ledger,
    receipt: Receipt,
    block: Block,
    rows: Sequence[StudentScore],
    ids: Sequence[str] | None,
) -> bool:
    """Whether a unit holds a block's problems under each strategy, in order, but for rejected ones.

    Args:
        ledger: the units.
        receipt: the unit, of scores or judgements.
        block: the block.
        rows: the unit's rows.
        ids: ids of the group's problems; None if they are not known, only their number is.
    """
    made = [ledger.units.get((stage, receipt.unit)) for stage in {"scores", receipt.stage}]
    lost = {id_ for each in made if each is not None for id_ in lost_in(ledger, each)}
    if ids is None:
        left = list(dict.fromkeys(row.problem_id for row in rows))
        is_as_long = len(lost.union(left)) == len(block.problems)
    else:
        of_block = [ids[number] for number in block.problems]
        left = [id_ for id_ in of_block if id_ not in lost]
        is_as_long = lost <= set(of_block)
    return is_as_long and [(row.strategy, row.problem_id) for row in rows] == [
        (strategy, problem_id) for strategy in block.strategies for problem_id in left
    ]


def follows_from_scores(ledger: Ledger, receipt: Receipt) -> bool:
    """Whether each row of a unit of judgements is a score with the judge's reply, as far as known.

    Which problems are open is not looked up.
    """
    open_ids = {row.problem_id for row in rows_in(ledger, receipt, StudentScore) if row.judgement}
    return not any(judgement_faults(ledger, receipt, open_ids))
