"""Rationales against the problems that they answer, and examples against their rationales.

A problem may have several rationales, each with an example and a row of its own: (problem_id,
attempt) tells them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from orca2_gen.config.schema import RationalesConfig
from orca2_gen.prompts import user_text
from orca2_gen.provenance.refused_faults import holds_its_texts, is_what_was_said
from orca2_gen.provenance.unit_rows import rejections_in, rows_in, rows_of, stored_rows
from orca2_gen.rationales import Thoughts, taught_by
from orca2_gen.records import Example, Problem, Rationale, Rejection
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import Strategies

Key = tuple[str, int]
"""Problem and attempt."""


def rationales_faults(
    ledger: Ledger,
    receipt: Receipt,
    chosen: str | None,
    strategies: Strategies,
    asked: RationalesConfig,
) -> Iterator[str]:
    """A line for each fault of a unit's rationales.

    Args:
        ledger: the units.
        receipt: the unit.
        chosen: the strategy that its group selected.
        strategies: the run's.
        asked: how the run asked for rationales.
    """
    problems = {p.problem_id: p for p in rows_of(ledger, "problems", receipt.unit, Problem)}
    rationales: list[Rationale] = rows_in(ledger, receipt, Rationale)
    for rationale in rationales:
        name = _name(rationale)
        problem = problems.get(rationale.problem_id)
        if problem is not None and rationale.user != user_text(problem, strategies):
            yield f"rationales: {name} asks something other than its problem"
        if rationale.strategy != chosen:
            yield (
                f"rationales: {name} was taught {rationale.strategy}, {receipt.group} selected "
                f"{chosen}"
            )
        elif problem is not None and not holds_its_texts(rationale, problem, strategies):
            yield f"rationales: {name} does not hold its strategy's text"
        if not is_what_was_said(rationale):
            yield f"rationales: {name} is not what its calls said"
    yield from _attempt_faults(receipt, rationales, problems, asked)


def _attempt_faults(
    receipt: Receipt,
    rationales: Sequence[Rationale],
    problems: Mapping[str, Problem],
    asked: RationalesConfig,
) -> Iterator[str]:
    """A line for each problem with other rationales than its attempts can have brought."""
    place = {problem_id: index for index, problem_id in enumerate(problems)}
    known = [row for row in rationales if row.problem_id in place]  # counting finds the others
    order = [(place[row.problem_id], row.attempt) for row in known]
    if order != sorted(order):
        yield (
            f"rationales: {receipt.unit} does not hold them in the order of its problems and their "
            "attempts"
        )
    for problem_id, found in itertools.groupby(known, key=lambda row: row.problem_id):
        rows = list(found)
        if len(rows) > asked.per_problem:
            yield (
                f"rationales: {problem_id} has {len(rows)} of them, rationales.per_problem is "
                f"{asked.per_problem}"
            )
        for row in rows:
            if not 0 <= row.attempt < asked.max_attempts:
                yield (
                    f"rationales: {problem_id} has one of attempt {row.attempt}, "
                    f"rationales.max_attempts is {asked.max_attempts}"
                )
        if len(rows) > 1 and len({taught_by(row, asked.thoughts) for row in rows}) < len(rows):
            yield f"rationales: {problem_id} is taught one text more than once"


def examples_faults(ledger: Ledger, receipt: Receipt, thoughts: Thoughts) -> Iterator[str]:
    """A line for each fault of a unit's examples; `thoughts` is what became of the teacher's."""
    examples, are_named = stored_rows(ledger, receipt.accepted, Example)
    key = _key_of(are_named)
    taught = {key(row): row for row in rows_of(ledger, "rationales", receipt.unit, Rationale)}
    for example in examples:
        rationale = taught.get(key(example))
        yield from example_faults(example, rationale)
        if rationale is not None and thoughts == "keep":
            if example.messages[-1].reasoning != rationale.reasoning:
                yield f"examples: {_name(example)} holds another thought than its rationale"
        elif any(message.reasoning for message in example.messages):
            yield f"examples: {_name(example)} holds a thought, which the config drops"


def example_faults(example: Example, rationale: Rationale | None) -> Iterator[str]:
    """A line for each difference of an example from its rationale, the system message aside."""
    if rationale is None:
        return  # counting by id reports it
    said = tuple(message.content for message in example.messages if message.role != "system")
    thoughts = {message.reasoning for message in example.messages}
    if said != (rationale.user, rationale.text) or not thoughts <= {"", rationale.reasoning}:
        yield f"examples: {_name(example)} holds other words than its rationale"
    if example.strategy != rationale.strategy:
        yield f"examples: {_name(example)} names another strategy than its rationale"


def follows_from_rationales(ledger: Ledger, receipt: Receipt) -> bool:
    """Whether a unit of examples holds the words of its rationales, each once or rejected."""
    rationales: list[Rationale] = rows_of(ledger, "rationales", receipt.unit, Rationale)
    examples, are_named = stored_rows(ledger, receipt.accepted, Example)
    lost, are_lost_named = rejections_in(ledger, receipt)
    key = _key_of(are_named and are_lost_named)
    if sorted(map(key, [*examples, *lost])) != sorted(map(key, rationales)):
        return False
    taught = {key(row): row for row in rationales}
    return not any(any(example_faults(example, taught[key(example)])) for example in examples)


def _key_of(are_named: bool) -> Callable[[Rationale | Example | Rejection], Key]:
    """A function: row -> its Key; by the problem alone where examples do not name attempts."""
    return lambda row: (row.problem_id, row.attempt if are_named else 0)


def _name(row: Rationale | Example) -> str:
    return row_name(row.problem_id, row.attempt)
