"""(problem, system message) on an engine -> StudentScore, for scoring and for evaluation.

A stored StudentScore is graded again without an engine.
"""

from __future__ import annotations

import dataclasses

from orca2_gen.calls import Budget, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading.grade import graded
from orca2_gen.records import COMPLETION_FIELDS, Problem, StudentScore
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
    """The graded greedy answer to a problem under a strategy, or under `cautious` or `empty`."""
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
    said = {name: getattr(completion, name) for name in COMPLETION_FIELDS}
    return StudentScore(
        task=problem.task,
        outcome=verdict.outcome,
        score=verdict.score,
        answer=verdict.answer,
        completions=answer.completions,
        **said,
    )


async def regraded(problem: Problem, stored: StudentScore) -> StudentScore:
    """The stored completion under today's grader; all that the engine made stays as it was."""
    verdict = await graded(problem, stored.completion)
    return dataclasses.replace(
        stored, outcome=verdict.outcome, score=verdict.score, answer=verdict.answer
    )
