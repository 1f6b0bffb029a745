"""(problem, system message) on an engine -> StudentScore: ask and grade, for scoring and for
evaluation alike.
"""

from __future__ import annotations

from orca2_gen.calls import Budget, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading import graded
from orca2_gen.records import Problem, StudentScore
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
