"""A small ground of the microworld without a run, and replies to what is asked on it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.assembly.execution import Reply, finish_reason
from benchmarks.assembly.ground import MICROWORLD, Asked, Ground, pair_config
from orca2_gen.config.arguments import selection_rule
from orca2_gen.grading.grade import grade
from orca2_gen.records import Problem
from orca2_gen.strategies import load_strategies

GROUPS = ("add", "river")


def problem(group: str, number: int) -> Problem:
    return Problem(
        problem_id=f"{group}/train/{number}",
        task=group,
        question=f"Compute {number} + {number}.",
        target=str(2 * number),
        answer_type="numeric",
    )


def ground_of(num_problems: int, num_scored: int) -> Ground:
    config = pair_config(MICROWORLD, Path("runs/none"), ["selection.indifference=0.1"])
    strategies = load_strategies(config.strategies)
    problems = {
        group: tuple(problem(group, number) for number in range(num_problems)) for group in GROUPS
    }
    return Ground(
        config=config,
        strategies=strategies,
        rule=selection_rule(config, strategies),
        problems=problems,
        scored={group: found[:num_scored] for group, found in problems.items()},
    )


def reply_to(asked: Asked, text: str, num_tokens: int = 5) -> Reply:
    reason = finish_reason(num_tokens, asked.max_tokens)
    return Reply(
        asked=asked,
        text=text,
        num_prompt_tokens=20,
        num_completion_tokens=num_tokens,
        grade=grade(asked.problem, text, reason),
    )


def right(asked: Asked) -> str:
    return f"Answer: {asked.problem.target}"


def wrong(asked: Asked) -> str:
    return f"Answer: {int(asked.problem.target) + 1}"
