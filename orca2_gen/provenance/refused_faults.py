"""A teacher's refused answers: each is of its problem, and together with the accepted ones they are
all that was asked.

Units of older versions, and those of a run with `rationales.keep_refused` off, have none: nothing
is missing there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from orca2_gen.calls import compose
from orca2_gen.config.schema import RationalesConfig
from orca2_gen.prompts import user_text
from orca2_gen.rationales import FAULTS
from orca2_gen.records import Problem, Rationale, Rejection
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt, read_refused, read_unit
from orca2_gen.strategies import Strategies


def refused_faults(
    ledger: Ledger,
    receipt: Receipt,
    chosen: str | None,
    strategies: Strategies,
    asked: RationalesConfig,
) -> Iterator[str]:
    """A line for each fault of the refused answers of a unit of rationales.

    Damaged files are skipped here: the check of every file reports them.

    Args:
        ledger: the units.
        receipt: the unit.
        chosen: the strategy that its group selected.
        strategies: the run's.
        asked: how the run asked for rationales.
    """
    try:
        accepted, rejections = read_unit(ledger.run_dir, receipt, Rationale)
        refused = read_refused(ledger.run_dir, receipt, Rationale)
        before = ledger.units.get(("problems", receipt.unit))
        entry = before.accepted if before is not None else None
        problems = read_records(ledger.run_dir, entry, Problem) if entry is not None else []
    except DamagedFile:
        return
    for row in accepted:
        if row.fault:
            yield f"rationales: {_name(row)} is accepted and has a fault, {row.fault!r}"
    by_id = {problem.problem_id: problem for problem in problems}
    for row in refused:
        problem = by_id.get(row.problem_id)
        fault = _row_fault(row, problem, chosen, strategies)
        if fault:
            yield f"rationales: the refused {_name(row)} {fault}"
    if receipt.refused is not None:
        yield from _way_faults(receipt, [*accepted, *refused], rejections, by_id, asked)
        place = {problem_id: number for number, problem_id in enumerate(by_id)}
        known = [row for row in refused if row.problem_id in place]
        if known != sorted(known, key=lambda row: (place[row.problem_id], row.attempt)):
            yield (
                f"rationales: {receipt.unit} does not hold its refused answers in the order of its "
                "problems and their attempts"
            )


def _row_fault(
    row: Rationale, problem: Problem | None, chosen: str | None, strategies: Strategies
) -> str:
    """The fault of one refused answer by itself; empty if it has none."""
    if problem is None:
        return "answers no problem of its unit"
    if row.fault not in FAULTS:
        return f"has the fault {row.fault!r}, which no answer is refused for"
    if row.strategy != chosen:
        return f"was taught {row.strategy}, its group selected {chosen}"
    if not is_asked_today(row, problem, strategies):
        return "does not hold its problem's and its strategy's texts"
    if not is_what_was_said(row):
        return "is not what its calls said"
    if (row.fault == "empty") == bool(row.text.strip()) and row.fault != "truncated":
        return f"has the fault {row.fault!r} and the text {row.text.strip()[:40]!r}"
    return ""


def is_asked_today(row: Rationale, problem: Problem, strategies: Strategies) -> bool:
    """Whether an answer holds the texts with which its problem is asked under its strategy."""
    user = user_text(problem, strategies)
    return row.user == user and holds_its_texts(row, problem, strategies)


def holds_its_texts(row: Rationale, problem: Problem, strategies: Strategies) -> bool:
    """Whether an answer holds its strategy's words for that problem, in every call."""
    if row.strategy not in strategies.instructions:
        return False
    system = strategies.system_message(row.strategy, problem)
    further_calls = strategies.further_calls.get(row.strategy, ())
    return (row.system, row.further_calls) == (system, further_calls)


def is_what_was_said(row: Rationale) -> bool:
    """Whether an answer is what its calls said; one that was cut short may lack the last ones."""
    said, num_calls = row.completions, 1 + len(row.further_calls)
    if not said:
        return num_calls == 1 or row.fault == "truncated"
    if len(said) == 1 or [each.call for each in said] != list(range(len(said))):
        return False
    if len(said) > num_calls or (len(said) < num_calls and row.fault != "truncated"):
        return False
    made = {(each.problem_id, each.role, each.strategy, each.attempt) for each in said}
    whole = compose(said)
    tokens = whole.num_prompt_tokens, whole.num_completion_tokens
    return (
        made == {(row.problem_id, "teacher", row.strategy, row.attempt)}
        and (row.text, row.reasoning) == (whole.text, whole.reasoning)
        and (row.num_prompt_tokens, row.num_completion_tokens) == tokens
    )


def _way_faults(
    receipt: Receipt,
    rows: Sequence[Rationale],
    rejections: Sequence[Rejection],
    problems: Mapping[str, Problem],
    asked: RationalesConfig,
) -> Iterator[str]:
    """A line for each problem whose answers are not those of all attempts at it, up to the last."""
    by_problem = {
        problem_id: list(found)
        for problem_id, found in itertools.groupby(
            sorted(rows, key=attrgetter("problem_id", "attempt")), attrgetter("problem_id")
        )
    }
    rejected = {row.problem_id: row.reason for row in rejections}
    for problem_id in problems:
        tried = by_problem.get(problem_id, [])
        reason = rejected.get(problem_id, "")
        if reason == "engine_died" and not tried:
            continue  # no attempt came to an end
        at = f"rationales: {problem_id}"
        if [row.attempt for row in tried] != list(range(len(tried))) or not tried:
            numbers = ", ".join(str(row.attempt) for row in tried) or "none"
            yield f"{at}: of its attempts these are kept: {numbers}; expected all from 0"
            continue
        num_accepted = sum(not row.fault for row in tried)
        is_last = num_accepted == asked.per_problem and not tried[-1].fault
        if not is_last and (len(tried) != asked.max_attempts or num_accepted > asked.per_problem):
            yield (
                f"{at}: {num_accepted} of {len(tried)} attempts are accepted, expected them to end "
                f"with accepted answer {asked.per_problem} or after {asked.max_attempts} attempts"
            )
        elif num_accepted == 0 and reason != tried[-1].fault:
            yield f"{at}: rejected as {reason!r}, its last answer as {tried[-1].fault!r}"
        elif num_accepted and reason:
            yield f"{at}: is rejected and has an accepted answer"


def _name(row: Rationale) -> str:
    return f"{row.problem_id}, attempt {row.attempt}"
