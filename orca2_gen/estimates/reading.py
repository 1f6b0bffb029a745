"""A run's tasks read once for how many problems there are, and how long their prompts become."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orca2_gen.chat import Chat, ControlTokenError, encode_prompt, encode_text
from orca2_gen.config.arguments import (
    engine_rendering,
    held_out_tasks,
    removes_near,
    rooms,
    scored_engine,
    task_source,
)
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.lengths import LengthBudget, length_budget, plan_length
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.provenance.inputs import Inputs, recorded_chat
from orca2_gen.records import Problem, Rejection
from orca2_gen.selection.blocks import Group, group_name
from orca2_gen.strategies import CAUTIOUS, Strategies
from orca2_gen.tasks.read import read_task

SAMPLED = 1024
"""Problems whose prompts are encoded, spread evenly over the groups."""
FEWEST_SAMPLED = 4
"""Those of each group where there are many."""
TELL_ROWS = 250_000
"""Rows between two lines about reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Prompts of one model, in its tokens."""

    frames: Mapping[str, int]
    """Strategy -> tokens beside the problem's own text."""
    problems: Mapping[str, float]
    """Group -> mean tokens of a problem's text."""

    def mean_problem(self, groups: Mapping[str, int]) -> float:
        """The mean tokens of a problem's text over groups with so many problems."""
        num = sum(groups.values())
        return sum(self.problems[name] * size for name, size in groups.items()) / max(1, num)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadTasks:
    """The tasks of a run."""

    num_rows: int
    """Rows that count as input."""
    groups: tuple[Group, ...]
    """The selection groups, with the problems that fit every engine."""
    num_open: int
    """Open problems among them."""
    prompts: Mapping[str, Prompts]
    """Role -> prompts of the model that is scored (`student`, whichever it is), and the teacher's.
    """
    problem_bytes: float
    """Mean bytes of a problem's text."""
    misfit: str = ""
    """Why some of them fit no engine, for people; empty if all do."""

    @property
    def sizes(self) -> dict[str, int]:
        """Group -> its problems."""
        return {group.name: group.num_problems for group in self.groups}

    @property
    def num_problems(self) -> int:
        return sum(self.sizes.values())


@dataclass(slots=True)
class _Sample:
    """A fair sample of each group's problems in one pass (Vitter's algorithm R), the smaller the
    more groups there are.
    """

    groups: dict[str, list[Problem]] = field(default_factory=dict)
    num_seen: Counter[str] = field(default_factory=Counter)
    draws: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, group: str, problem: Problem) -> None:
        rows = self.groups.setdefault(group, [])
        self.num_seen[group] += 1
        most = max(FEWEST_SAMPLED, SAMPLED // len(self.groups))
        while len(rows) > most:
            rows.pop(self.draws.randrange(len(rows)))
        if len(rows) < most and len(rows) == self.num_seen[group] - 1:
            rows.append(problem)
        elif self.draws.randrange(self.num_seen[group]) < len(rows):
            rows[self.draws.randrange(len(rows))] = problem


@dataclass(frozen=True, slots=True)
class _Counted:
    """What reading has found."""

    num_rows: int
    sizes: Counter[str]
    """Group -> its problems."""
    open_problems: Counter[str]
    sample: _Sample


def read_tasks(config: Config, inputs: Inputs) -> Iterator[int | ReadTasks]:
    """The number of rows read so far, now and then, and in the end the ReadTasks.

    Copies of held-out rows and near-duplicates are not looked for.

    Args:
        config: the run's.
        inputs: its Inputs; digests of weights are not needed.

    Raises:
        ValueError: a task cannot be read.
    """
    sizes: Counter[str] = Counter()
    open_problems: Counter[str] = Counter()
    sample, num_rows = _Sample(), 0
    for task in config.tasks:
        held_out = held_out_tasks(config) if task.few_shot is not None else ()
        read = read_task(
            task_source(task),
            inputs.taxonomy,
            held_out=[task_source(other) for other in held_out],
        )
        for row in read.rows:
            num_rows += 1
            if num_rows % TELL_ROWS == 0:
                yield num_rows
            if not isinstance(row, Problem):
                continue
            name = group_name(row, config.selection.select_by)
            sizes[name] += 1
            open_problems[name] += row.answer_type == "open"
            sample.add(name, row)
    yield _told(config, inputs, _Counted(num_rows, sizes, open_problems, sample))


def notes_of(config: Config) -> tuple[str, ...]:
    """What reading leaves out, for people."""
    removed = ["copies of held-out rows"] if config.held_out or config.evaluation.tasks else []
    removed += ["near-duplicates"] if removes_near(config) else []
    return (f"{' and '.join(removed)}, which a run rejects",) if removed else ()


def _told(config: Config, inputs: Inputs, counted: _Counted) -> ReadTasks:
    planned = {name: _planned(config, inputs, rows) for name, rows in counted.sample.groups.items()}
    fitting = {
        name: [row for row in rows if isinstance(row, Problem)] for name, rows in planned.items()
    }
    refused = [row for rows in planned.values() for row in rows if isinstance(row, Rejection)]
    num_sampled = sum(map(len, planned.values()))
    kept = {
        name: round(num * len(fitting[name]) / len(counted.sample.groups[name]))
        for name, num in counted.sizes.items()
    }
    num_groups = sum(1 for num in kept.values() if num)
    return ReadTasks(
        num_rows=counted.num_rows,
        groups=tuple(
            Group(
                name=name,
                num_problems=num,
                num_groups=num_groups,
                is_judged=counted.open_problems[name] > 0,
            )
            for name, num in kept.items()
            if num
        ),
        num_open=sum(min(num, counted.open_problems[name]) for name, num in kept.items()),
        prompts={
            "student": _prompts(config, inputs, scored_engine(config)[1], fitting),
            "teacher": _prompts(config, inputs, config.teacher, fitting),
        },
        problem_bytes=_mean(
            [
                len(row.question.encode()) + len(row.target)
                for rows in fitting.values()
                for row in rows
            ]
        ),
        misfit=(
            f"{len(refused)} of {num_sampled} problems that were looked at, {refused[0].reason}: "
            f"{refused[0].detail}"
            if refused
            else ""
        ),
    )


def _planned(
    config: Config, inputs: Inputs, problems: Sequence[Problem]
) -> list[Problem | Rejection]:
    """Each problem, or why it does not fit every engine."""
    budgets: list[LengthBudget] = [
        length_budget(
            room, recorded_chat(inputs, room.tokenizer, room.rendering), inputs.strategies
        )
        for room in rooms(config, inputs.strategies)
    ]
    return [plan_length(row, inputs.strategies, budgets) for row in problems]


def _prompts(
    config: Config,
    inputs: Inputs,
    engine: EngineConfig,
    problems: Mapping[str, Sequence[Problem]],
) -> Prompts:
    """Prompts of a model for problems by group."""
    rendering = engine_rendering(engine, config.template_date)
    chat = recorded_chat(inputs, engine_directory(engine), rendering)
    strategies = inputs.strategies
    frames = {
        name: len(encode_prompt(chat, prompt_messages(strategies.system_message(name), "")))
        for name in (*strategies.names, CAUTIOUS)
    }
    return Prompts(
        frames=frames,
        problems={
            name: _mean([num for row in rows if (num := _num_tokens(chat, row, strategies))])
            for name, rows in problems.items()
        },
    )


def _num_tokens(chat: Chat, problem: Problem, strategies: Strategies) -> int | None:
    try:
        return len(encode_text(chat, user_text(problem, strategies)))
    except ControlTokenError:
        return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
