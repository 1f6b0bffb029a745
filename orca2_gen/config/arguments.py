"""A config -> the arguments of the functions that do the work: configuration stops here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.chat import PLAIN, Rendering
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.task import STATED, TaskConfig
from orca2_gen.records import Role
from orca2_gen.selection.blocks import Rule
from orca2_gen.strategies import Strategies
from orca2_gen.tasks.source import TaskSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The tokens that one engine offers a prompt and its answer together."""

    role: str
    tokenizer: str
    """Directory of the engine's tokenizer and chat template."""
    rendering: Rendering = PLAIN
    """How the template renders."""
    max_model_len: int
    max_tokens: int
    """Tokens of a call's answer."""
    answer_key: str
    """Key of the config that says how many."""
    judged_tokens: int | None = None
    """Tokens, for the model that gives it, of the longest answer shown to a judge; None for an
    engine that is asked the problems themselves."""
    scored_tokens: int = 0
    """Tokens of the longest answer that a forced ending may follow."""
    scored_key: str = ""
    """Key of the config that says how many, or how long the answers are that are judged."""
    ending_tokens: int | None = None
    """Tokens of a forced ending; None if none is asked for."""


def selection_rule(config: Config, strategies: Strategies) -> Rule:
    """The Rule of a config; a judged group has its own (`Rule.of`)."""
    return Rule(
        strategies=strategies.names,
        run_seed=config.run_seed,
        **config.selection.model_dump(exclude={"select_by"}),
    )


def rooms(config: Config, strategies: Strategies) -> tuple[Room, ...]:
    """The rooms that a problem's prompts must fit in.

    The student's is for scoring, the teacher's for rationales, the judge's for answers to open
    problems.
    """
    date, scored = config.template_date, _scored(config)
    written = ("rationales.max_tokens", config.rationales.max_tokens)
    student = _ended(_room("student", config.student, scored, date), scored, config)
    # With teacher_best the teacher is scored.
    longest = max(written, scored, key=lambda answer: answer[1])
    teacher = _ended(_room("teacher", config.teacher, longest, date), scored, config)
    return student, teacher, *_judges(config, config.judge_of_open, strategies, scored)


Answer = tuple[str, int]
"""The key of the config that says how long an answer may be, and its most tokens."""


def _scored(config: Config) -> Answer:
    return config.scoring.longest_key, config.scoring.most_tokens


def _judges(
    config: Config, judge: EngineConfig | None, strategies: Strategies, judged: Answer
) -> Iterator[Room]:
    """The room of a judge, if there is one, of answers whose every call takes so many tokens."""
    if judge is not None:
        num_calls = 1 + max(map(len, strategies.further_calls.values()), default=0)
        answer = ("judging.max_tokens", config.judging.max_tokens)
        room = _room("judge", judge, answer, config.template_date)
        key, tokens = judged
        yield dataclasses.replace(room, judged_tokens=num_calls * tokens, scored_key=key)


def task_source(task: TaskConfig) -> TaskSource:
    """The TaskSource of a task."""
    return TaskSource(**task.model_dump(exclude={"path", *STATED}), path=Path(task.path))


def held_out_tasks(config: Config) -> tuple[TaskConfig, ...]:
    """The tasks whose questions no worked example asks."""
    return config.held_out or config.evaluation.tasks


def removes_near(config: Config) -> bool:
    """Whether near-duplicates are rejected."""
    return config.decontaminate is not None and config.decontaminate.near == "remove"


def evaluated_room(config: Config) -> Room:
    """The room that a held-out problem's prompts must fit in."""
    answer = _evaluated(config)
    return _ended(_room("student", config.student, answer, config.template_date), answer, config)


def held_out_judge_room(config: Config, strategies: Strategies) -> Room | None:
    """The room of the judge of open held-out answers; None without one.

    A problem that does not fit in it is lost to this judge alone: another may take its place.
    """
    judge, answer = config.judge_of_held_out, _evaluated(config)
    return next(_judges(config, judge, strategies, answer), None)


def _evaluated(config: Config) -> Answer:
    return "evaluation.max_tokens", config.evaluation.max_tokens


def _ended(room: Room, scored: Answer, config: Config) -> Room:
    """The room with place for the forced ending of an answer of so many tokens, if one is asked."""
    ending_tokens = config.scoring.ending_tokens
    if ending_tokens is None:
        return room
    key, tokens = scored
    return dataclasses.replace(
        room, scored_tokens=tokens, scored_key=key, ending_tokens=ending_tokens
    )


def engine_rendering(engine: EngineConfig, template_date: str | None) -> Rendering:
    """The Rendering of an engine's chat template on a run's template_date."""
    return Rendering(
        date=template_date or PLAIN.date,
        arguments=json.dumps(engine.template_arguments, sort_keys=True),
        system=engine.system,
        thinking=engine.thinking,
    )


def _room(role: str, engine: EngineConfig, answer: Answer, template_date: str | None) -> Room:
    key, max_tokens = answer
    return Room(
        role=role,
        tokenizer=engine_directory(engine),
        rendering=engine_rendering(engine, template_date),
        max_model_len=engine.max_model_len,
        max_tokens=max_tokens,
        answer_key=key,
    )


def scores_teacher(config: Config) -> bool:
    """Whether the policy uses the teacher's own scores."""
    return config.selection.policy == "teacher_best"


def scored_engine(config: Config) -> tuple[Role, EngineConfig]:
    """Role and engine of the model whose scores decide, or would decide if the policy asked."""
    is_teacher = scores_teacher(config)
    return ("teacher", config.teacher) if is_teacher else ("student", config.student)


def scored_roles(config: Config) -> set[Role]:
    """The role of the model whose scores the policy uses; empty if it uses none."""
    if not config.selection.needs_scores:
        return set()
    return {"teacher" if scores_teacher(config) else "student"}


def roles_of_run(config: Config) -> set[Role]:
    """The roles of the models that are started for a dataset, if they have anything to do."""
    return {*roles_of_scoring(config), "teacher"}


def roles_of_scoring(config: Config) -> set[Role]:
    """The roles of the models that are started to choose strategies."""
    return scored_roles(config) | _judge_if(config.needed_judge)


def roles_of_evaluation(config: Config) -> set[Role]:
    """The roles of the models that are started to evaluate a model, which takes the student's."""
    return {"student", *_judge_if(config.judge_of_held_out)}


def _judge_if(judge: EngineConfig | None) -> set[Role]:
    return {"judge"} if judge is not None else set()


def engines_by_stage(config: Config) -> dict[str, tuple[Role, EngineConfig]]:
    """Stage of a dataset -> role and engine of the model that it asks, for each that asks one."""
    found: dict[str, tuple[Role, EngineConfig]] = {}
    if config.selection.needs_scores:
        found["scores"] = scored_engine(config)
    if (judge := config.needed_judge) is not None:
        found["judgements"] = ("judge", judge)
    return {**found, "rationales": ("teacher", config.teacher)}
