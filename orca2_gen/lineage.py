"""What the method rests on, derived anew from committed rows: each choice from its scores, each
word of an example from its problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orca2_gen.blocks import Block
from orca2_gen.calls import compose
from orca2_gen.config_schema import Config
from orca2_gen.groups import Group, block_unit, group_name
from orca2_gen.ledger import Ledger, Receipt
from orca2_gen.plan import selection_rule
from orca2_gen.records import Example, Problem, Rationale, Selection, StudentScore
from orca2_gen.selection import next_step
from orca2_gen.shards import DamagedFile, read_records
from orca2_gen.strategies import Strategies, user_text


def lineage_faults(ledger: Ledger, config: Config, strategies: Strategies) -> Iterator[str]:
    """What does not follow from what it says it came from; nothing if all of it does.

    Damaged files are skipped here: whoever reads every file reports them.
    """
    chosen: dict[str, str] = {}
    num_groups = len({r.group for r in ledger.committed("problems") if r.counts["accepted"]})
    for receipt in ledger.committed("selections"):
        for selection in _rows(ledger, receipt, Selection):
            chosen[selection.group] = selection.strategy
            yield from _selection_faults(ledger, config, selection, num_groups)
    for receipt in ledger.committed("problems"):
        for problem in _rows(ledger, receipt, Problem):
            if group_name(problem, config.selection.select_by) != receipt.group:
                yield f"problems: {problem.problem_id} does not belong to {receipt.group}"
    for receipt in ledger.committed("rationales"):
        problems = {p.problem_id: p for p in _rows_of(ledger, "problems", receipt.unit, Problem)}
        for rationale in _rows(ledger, receipt, Rationale):
            problem = problems.get(rationale.problem_id)
            if problem is not None and rationale.user != user_text(problem, strategies):
                yield f"rationales: {rationale.problem_id} asks something else than its problem"
            if rationale.strategy != chosen.get(receipt.group):
                yield (
                    f"rationales: {rationale.problem_id} was taught {rationale.strategy}, "
                    f"{receipt.group} selected {chosen.get(receipt.group)}"
                )
            elif not _holds_its_texts(rationale, problem, strategies):
                yield f"rationales: {rationale.problem_id} does not hold its strategy's text"
            if rationale.completions and rationale.text != compose(rationale.completions).text:
                yield f"rationales: {rationale.problem_id} is not what its calls said"
    for receipt in ledger.committed("examples"):
        taught = {r.problem_id: r for r in _rows_of(ledger, "rationales", receipt.unit, Rationale)}
        for example in _rows(ledger, receipt, Example):
            yield from example_faults(example, taught.get(example.problem_id))


def _holds_its_texts(rationale: Rationale, problem: Problem | None, strategies: Strategies) -> bool:
    """Whether a rationale holds its strategy's words for that problem, in every call."""
    system = strategies.system_message(rationale.strategy, problem)
    further_calls = strategies.further_calls.get(rationale.strategy, ())
    return (rationale.system, rationale.further_calls) == (system, further_calls)


def example_faults(example: Example, rationale: Rationale | None) -> Iterator[str]:
    """What an example says otherwise than its rationale, the system message aside."""
    if rationale is None:
        return  # counting by id reports it
    said = tuple(message.content for message in example.messages if message.role != "system")
    if said != (rationale.user, rationale.text):
        yield f"examples: {example.problem_id} holds other words than its rationale"
    if example.strategy != rationale.strategy:
        yield f"examples: {example.problem_id} names another strategy than its rationale"


def _selection_faults(
    ledger: Ledger, config: Config, selection: Selection, num_groups: int
) -> Iterator[str]:
    """The Selection that the committed scores lead to must be the committed one."""
    rule = selection_rule(config)
    group = Group(name=selection.group, num_problems=selection.num_problems, num_groups=num_groups)
    scored: dict[int, list[StudentScore]] = {}
    step = next_step(group, rule, scored)
    while isinstance(step, Block) and len(scored) <= step.index:
        unit = block_unit(group, step.index)
        scored[step.index] = _rows_of(ledger, "scores", unit, StudentScore)
        asked = {score.strategy for score in scored[step.index]}
        if not asked <= set(step.strategies):
            fallen = ", ".join(sorted(asked - set(step.strategies)))
            yield f"scores: {unit} holds cells of {fallen}, which had fallen before"
        step = next_step(group, rule, scored)
    if step != selection:
        yield f"selections: {selection.group} does not follow from its committed scores"


def _rows_of(ledger: Ledger, stage: str, unit: str, record: type[Any]) -> list[Any]:
    receipt = ledger.units.get((stage, unit))
    return _rows(ledger, receipt, record) if receipt is not None else []


def _rows(ledger: Ledger, receipt: Receipt, record: type[Any]) -> list[Any]:
    try:
        return read_records(ledger.run_dir, receipt.files[0], record)
    except DamagedFile:
        return []
