"""(problem, system message) on an engine -> StudentScore, for scoring and for evaluation.

A stored StudentScore is graded again without an engine.
"""

from __future__ import annotations

import dataclasses

from orca2_gen.calls import Budget, ask
from orca2_gen.chat import Chat
from orca2_gen.endings import forced_ending, may_be_forced
from orca2_gen.engine import Engine
from orca2_gen.grading.forced_endings import graded_ending
from orca2_gen.grading.grade import graded
from orca2_gen.grading.verdicts import Grade
from orca2_gen.records import COMPLETION_FIELDS, Completion, Problem, StudentScore
from orca2_gen.strategies import Strategies


async def score(
    problem: Problem,
    strategy: str,
    *,
    role: str,
    engine: Engine,
    chat: Chat,
    strategies: Strategies,
    budget: Budget,
) -> StudentScore:
    """The graded greedy answer to a problem under a strategy, or under `cautious` or `empty`.

    A forced ending is asked for only where the text leaves the cell undecided.
    """
    answer = await ask(
        problem,
        strategy,
        role=role,
        engine=engine,
        chat=chat,
        strategies=strategies,
        budget=budget,
    )
    completion = answer.completion
    verdict = await graded(problem, completion)
    ending: tuple[Completion, ...] = ()
    if may_be_forced(problem, verdict.outcome):
        ending = await forced_ending(problem, answer, engine=engine, chat=chat, budget=budget)
        verdict = await _forced(problem, ending) or verdict
    said = {name: getattr(completion, name) for name in COMPLETION_FIELDS}
    return StudentScore(
        task=problem.task,
        outcome=verdict.outcome,
        score=verdict.score,
        answer=verdict.answer,
        completions=answer.completions,
        ending=ending,
        **said,
    )


async def regraded(problem: Problem, stored: StudentScore) -> StudentScore:
    """The stored completion under today's grader; all that the engine made stays as it was."""
    verdict = await graded(problem, stored.completion)
    is_undecided = may_be_forced(problem, verdict.outcome)
    if is_undecided:
        verdict = await _forced(problem, stored.ending) or verdict
    return dataclasses.replace(
        stored,
        outcome=verdict.outcome,
        score=verdict.score,
        answer=verdict.answer,
        ending_is_unread=bool(stored.ending) and not is_undecided,
    )


async def _forced(problem: Problem, ending: tuple[Completion, ...]) -> Grade | None:
    """The verdict on a forced ending; None if there is none, or if it decides nothing."""
    return await graded_ending(problem, ending[0]) if ending else None
