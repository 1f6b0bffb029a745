from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from orca2_gen.calls import Budget
from orca2_gen.chat import Chat, encode_prompt
from orca2_gen.engine import Request
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Problem, StudentScore
from orca2_gen.scoring import regraded, score
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies


def score_under(
    strategy: str,
    problem: Problem,
    chat: Chat,
    strategies: Strategies,
    script: Callable[[Request], str],
    retry_max_tokens: int | None = None,
) -> StudentScore:
    engine = ScriptedEngine(chat, script)
    return asyncio.run(
        score(
            problem,
            strategy,
            role="student",
            engine=engine,
            chat=chat,
            strategies=strategies,
            budget=Budget(max_tokens=60, max_model_len=4096, retry_max_tokens=retry_max_tokens),
        )
    )


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Answer: 9", "correct"),
        ("Answer: 8", "incorrect"),
        ("I have no idea.", "unparsed"),
        ("so " * 300 + "Answer: 9", "truncated"),
    ],
)
def test_only_a_correct_completion_scores_one(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str, outcome: str
) -> None:
    found = score_under("step_by_step", sum_problem, chatml, strategies, lambda r: text)
    assert (found.outcome, found.score) == (outcome, float(outcome == "correct"))
    assert text.startswith(found.text) and found.num_completion_tokens <= 60
    assert (found.problem_id, found.task, found.strategy) == (
        sum_problem.problem_id,
        "sums",
        "step_by_step",
    )


@pytest.mark.parametrize("strategy", ["step_by_step", CAUTIOUS, EMPTY])
def test_scoring_is_greedy_and_asks_with_the_strategys_own_message(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, strategy: str
) -> None:
    asked: list[Request] = []

    def script(request: Request) -> str:
        asked.append(request)
        return "Answer: 9"

    found = score_under(strategy, sum_problem, chatml, strategies, script)
    [request] = asked
    messages = prompt_messages(
        strategies.system_message(strategy), user_text(sum_problem, strategies)
    )
    assert request.prompt_token_ids == encode_prompt(chatml, messages)
    assert (request.temperature, request.attempt) == (0.0, 0)
    assert found.num_prompt_tokens == len(request.prompt_token_ids)


def test_a_thought_cut_short_is_finished_with_the_larger_budget_and_graded_then(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    text = "so " * 40 + "Answer: 9"
    once = score_under("step_by_step", sum_problem, chatml, strategies, lambda r: text)
    assert (once.outcome, once.attempt, once.completions) == ("truncated", 0, ())
    again = score_under("step_by_step", sum_problem, chatml, strategies, lambda r: text, 2000)
    assert (again.outcome, again.attempt, again.text) == ("correct", 1, text)
    assert [c.finish_reason for c in again.completions] == ["length", "stop"]
    assert again.num_completion_tokens == again.completions[-1].num_completion_tokens


@pytest.mark.parametrize("text", ["Answer: 9", "Answer: 8", "no idea", "so " * 300])
def test_grading_anew_mends_the_verdict_and_nothing_else(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str
) -> None:
    found = score_under("step_by_step", sum_problem, chatml, strategies, lambda r: text)
    assert asyncio.run(regraded(sum_problem, found)) == found
    for role in ("student", "teacher"):
        right = dataclasses.replace(found, role=role, num_cached_tokens=3, attempt=2)
        wrong = dataclasses.replace(right, outcome="ungraded", score=0.25, answer="what")
        assert asyncio.run(regraded(sum_problem, wrong)) == right


def test_a_score_holds_its_completion(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    found = score_under("step_by_step", sum_problem, chatml, strategies, lambda r: "Answer: 9")
    completion = dataclasses.asdict(found.completion)
    assert completion.pop("call") == 0
    assert completion.items() <= dataclasses.asdict(found).items()
