"""Tasks, models and engines of a run, drawn from a seed; the races are the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.scripted.cluster import Cell, Cluster, Event, Stage, Unit
from orca2_gen.records import StudentScore
from orca2_gen.selection.blocks import Group, Rule, open_blocks
from orca2_gen.selection.decision import survivor_bits, survivors
from orca2_gen.strategies import CAUTIOUS

MEAN_TOKENS = {
    "direct_answer": 12.0,
    "step_by_step": 160.0,
    "recall_then_generate": 220.0,
    "recall_reason_generate": 260.0,
    "extract_generate": 180.0,
    "explain_then_answer": 140.0,
    CAUTIOUS: 150.0,
}
STRATEGIES = tuple(name for name in MEAN_TOKENS if name != CAUTIOUS)
MOST_TOKENS = 1024
TEACHER = 1.5
"""Length of a teacher's answer over the student's."""


@dataclass(kw_only=True, slots=True, eq=False)
class ScriptedRun:
    """Tasks and models as drawn from a seed."""

    rng: np.random.Generator
    rule: Rule
    groups: list[Group]
    right: dict[str, NDArray[np.bool_]]
    """Group -> [S, N] whether an answer is right."""
    wordiness: dict[str, float]
    """Group -> its answers' mean length over MEAN_TOKENS."""

    def cells(
        self, group: Group, index: int, rows: list[tuple[str, int]], factor: float = 1.0
    ) -> list[Cell]:
        """The cells of a unit, each with an answer of a length of its own."""
        means = np.array([MEAN_TOKENS[name] for name, _ in rows]) * self.wordiness[group.name]
        drawn = factor * means * self.rng.lognormal(-0.125, 0.5, len(rows))
        tokens = [int(each) for each in np.clip(drawn, 1, MOST_TOKENS)]
        unit = Unit(group=group, index=index, rows=rows, tokens=tokens, left=len(rows))
        return [
            Cell(unit=unit, strategy=name, tokens=num)
            for (name, _), num in zip(rows, tokens, strict=True)
        ]


def drawn_run(seed: int) -> ScriptedRun:
    """The run of a seed."""
    rng = np.random.default_rng(seed)
    num_tasks = int(np.exp(rng.uniform(np.log(3), np.log(40))))
    names = STRATEGIES[: int(rng.integers(3, 7))]
    rule = Rule(
        policy="student_best",
        strategies=names,
        method="race",
        delta=0.05,
        scored_problems=int(rng.choice([100, 200, 500])),
        block_size=int(rng.choice([16, 32, 64])),
        open_requests=512,
        indifference=float(rng.choice([0.0, 0.01, 0.02])),
        none_solved=names[0],
        cautious_arm=bool(rng.random() < 0.5),
        run_seed=seed,
    )
    groups, right, wordiness = [], {}, {}
    for place in range(num_tasks):
        num = int(rng.integers(200, 2000))
        group = Group(name=f"task{place}", num_problems=num, num_groups=num_tasks)
        groups.append(group)
        level, gap = rng.uniform(0.2, 0.8), rng.choice([0.02, 0.08, 0.2])
        accuracy = np.clip(level + gap * rng.standard_normal(len(names)), 0.02, 0.98)
        paired = rng.random(num)
        own = rng.random((len(names), num))
        draws = np.where(rng.random((len(names), num)) < 0.6, paired, own)
        right[group.name] = draws < accuracy[:, None]
        wordiness[group.name] = float(rng.lognormal(0.0, 0.3))
    return ScriptedRun(rng=rng, rule=rule, groups=groups, right=right, wordiness=wordiness)


def drawn_cluster(rng: np.random.Generator) -> Cluster:
    """Engines of a run, some of which die."""
    return Cluster(
        rng=rng,
        num=int(rng.choice([1, 2, 4, 8])),
        sequences=int(rng.choice([32, 128, 256])),
        token_seconds=float(rng.uniform(0.03, 0.1)),
        crowding=float(rng.uniform(0.2, 2.0)),
        load_seconds=float(rng.uniform(30, 120)),
        death_rate=float(rng.choice([0.0, 0.0, 1e-4, 5e-4])),
    )


def scoring(run: ScriptedRun) -> list[Event]:
    """The events of the race."""
    stage = Stage(drawn_cluster(run.rng))
    scored: dict[str, dict[int, list[StudentScore]]] = {group.name: {} for group in run.groups}
    left: dict[str, dict[int, tuple[str, ...]]] = {group.name: {} for group in run.groups}

    def next_cells(group: Group) -> list[Cell]:
        return [
            cell
            for block in open_blocks(group, run.rule, left[group.name])
            for cell in run.cells(
                *(group, block.index),
                [(name, number) for name in block.strategies for number in block.problems],
            )
        ]

    def following(unit: Unit) -> list[Cell]:
        name = unit.group.name
        scored[name][unit.index] = scores_of(run, unit)
        left[name][unit.index] = survivors(unit.group, run.rule, scored[name])
        unit.survivors = survivor_bits(unit.group, run.rule, scored[name])
        return next_cells(unit.group)

    for group in run.groups:
        stage.queue.extend(next_cells(group))
    return list(stage.run(following))


def teaching(run: ScriptedRun) -> list[Event]:
    """The events of a teacher who answers each task under one strategy."""
    stage = Stage(drawn_cluster(run.rng))
    per_unit = int(run.rng.choice([64, 256]))
    for group in run.groups:
        name = str(run.rng.choice(run.rule.strategies))
        factor = TEACHER * float(run.rng.lognormal(0.0, 0.2))
        for index, first in enumerate(range(0, group.num_problems, per_unit)):
            last = min(first + per_unit, group.num_problems)
            rows = [(name, number) for number in range(first, last)]
            stage.queue.extend(run.cells(group, index, rows, factor))
    return list(stage.run(lambda unit: []))


def scores_of(run: ScriptedRun, unit: Unit) -> list[StudentScore]:
    """The scores of a block."""
    right = run.right[unit.group.name]
    found = []
    for (name, number), tokens in zip(unit.rows, unit.tokens, strict=True):
        is_right = name != CAUTIOUS and bool(right[run.rule.strategies.index(name), number])
        found.append(
            StudentScore(
                problem_id=f"{number}",
                task=unit.group.name,
                strategy=name,
                role="student",
                attempt=0,
                outcome="correct" if is_right else "incorrect",
                score=float(is_right),
                answer="",
                text="",
                finish_reason="stop",
                num_prompt_tokens=0,
                num_cached_tokens=0,
                num_completion_tokens=tokens,
            )
        )
    return found
