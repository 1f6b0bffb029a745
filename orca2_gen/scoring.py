"""(problem, system message) on an engine -> StudentScore: ask and grade, for scoring and for
evaluation alike; and a StudentScore graded anew, without an engine.
"""

from __future__ import annotations

import dataclasses

from orca2_gen.calls import Budget, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading.grade import graded
from orca2_gen.records import Completion, Problem, StudentScore
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
    """The graded greedy answer to a problem under a strategy, or under the `cautious` or `empty`
    message.
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
    return StudentScore(
        problem_id=problem.problem_id,
        task=problem.task,
        strategy=strategy,
        role=role,
        attempt=completion.attempt,
        outcome=verdict.outcome,
        score=verdict.score,
        answer=verdict.answer,
        text=completion.text,
        finish_reason=completion.finish_reason,
        num_prompt_tokens=completion.num_prompt_tokens,
        num_cached_tokens=completion.num_cached_tokens,
        num_completion_tokens=completion.num_completion_tokens,
        completions=answer.completions,
    )


async def regraded(problem: Problem, stored: StudentScore) -> StudentScore:
    """The stored completion under today's grader; whatever the engine did stays as it was."""
    verdict = await graded(problem, completion_of(stored))
    return dataclasses.replace(
        stored, outcome=verdict.outcome, score=verdict.score, answer=verdict.answer
    )


def completion_of(stored: StudentScore) -> Completion:
    """The completion that a score holds the verdict on."""
    return Completion(
        problem_id=stored.problem_id,
        role=stored.role,
        strategy=stored.strategy,
        call=0,
        attempt=stored.attempt,
        text=stored.text,
        finish_reason=stored.finish_reason,
        num_prompt_tokens=stored.num_prompt_tokens,
        num_cached_tokens=stored.num_cached_tokens,
        num_completion_tokens=stored.num_completion_tokens,
    )
