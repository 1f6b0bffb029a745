"""A config -> the arguments of the functions that do the work: configuration stops here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.records import Role
from orca2_gen.selection.blocks import Group, Rule
from orca2_gen.strategies import load_strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What one engine offers a prompt and its answer together."""

    role: str
    tokenizer: str
    """Directory of the engine's tokenizer and chat template."""
    max_model_len: int
    max_tokens: int
    """Of a call's answer."""
    judged_tokens: int | None = None
    """Of the longest answer that a judge is shown, in tokens of whoever gives it; None of an engine
    that is asked the problems themselves."""


def selection_rule(config: Config, group: Group | None = None) -> Rule:
    """The Rule of a config, for one group where it is given: judged ones use the full grid, since a
    race would have to wait for the judge after every block.
    """
    is_judged = group is not None and group.is_judged
    return Rule(
        policy=config.selection.policy,
        strategies=load_strategies(config.strategies).names,
        method="full_grid" if is_judged else config.selection.method,
        delta=config.selection.delta,
        scored_problems=config.selection.scored_problems,
        block_size=config.selection.block_size,
        open_requests=config.selection.open_requests,
        indifference=config.selection.indifference,
        none_solved=config.selection.none_solved,
        cautious_arm=config.selection.cautious_arm,
        run_seed=config.run_seed,
    )


def rooms(config: Config) -> tuple[Room, ...]:
    """The rooms that a problem's prompts must fit in: the student's for scoring, the teacher's for
    rationales, the judge's for the answers to open ones.
    """
    student = _room("student", config.student, config.scoring.most_tokens)
    # With teacher_best it is the teacher that is scored.
    teacher = _room(
        "teacher", config.teacher, max(config.rationales.max_tokens, config.scoring.most_tokens)
    )
    if config.judge_of_open is None:
        return student, teacher
    further_calls = load_strategies(config.strategies).further_calls.values()
    num_calls = 1 + max(map(len, further_calls), default=0)
    judge = _room("judge", config.judge_of_open, config.judging.max_tokens)
    judged_tokens = num_calls * config.scoring.most_tokens
    return student, teacher, dataclasses.replace(judge, judged_tokens=judged_tokens)


def evaluation_rooms(config: Config) -> tuple[Room, ...]:
    """The room that a held-out problem's prompts must fit in."""
    return (_room("student", config.student, config.evaluation.max_tokens),)


def _room(role: str, engine: EngineConfig, max_tokens: int) -> Room:
    return Room(
        role=role,
        tokenizer=engine_directory(engine),
        max_model_len=engine.max_model_len,
        max_tokens=max_tokens,
    )


def scores_teacher(config: Config) -> bool:
    """Whether the policy looks at the teacher's own scores."""
    return config.selection.policy == "teacher_best"


def scored_roles(config: Config) -> set[Role]:
    """Of the model whose scores the policy looks at; none where it looks at none."""
    if not selection_rule(config).needs_scores:
        return set()
    return {"teacher" if scores_teacher(config) else "student"}


def roles_of_run(config: Config) -> set[Role]:
    """Of the models that are started for a dataset, if there is anything for them to do."""
    return {*scored_roles(config), "judge", "teacher"}
