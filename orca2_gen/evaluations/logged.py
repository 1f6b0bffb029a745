"""The answers of evaluations with what was asked, task by task: the rows of sample logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from orca2_gen.evaluations.about import Evaluation, label_of, read_about
from orca2_gen.evaluations.answers import (
    AnsweredUnit,
    answered_units,
    held_out_sizes,
    model_names,
)
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Message, Problem, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.strategies import Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One item, what was asked, and the answer."""

    problem: Problem
    score: StudentScore
    prompt: tuple[Message, ...]
    """The messages before the first answer."""
    conversation: tuple[Message, ...]
    """The prompt with all that the model said, and the user between its calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskAnswers:
    """A model's answers to one task under one message."""

    model: str
    """Its name in tables."""
    about: Evaluation | None
    """None for an evaluation of an older version, which wrote nothing about it."""
    stage_key: str
    message: str
    task: str
    samples: tuple[Sample, ...]
    num_items: int
    """All items of the task, answered or not."""
    num_lost: int
    """Those that could not be asked."""
    began: datetime
    """The times of the first and the last file of answers, which a copy of the run may change."""
    ended: datetime

    @property
    def directory(self) -> str:
        """Directory of the model, or its name where that is not known."""
        return (self.about.model if self.about else "") or self.model


def task_answers(ledger: Ledger, strategies: Strategies) -> Iterator[TaskAnswers]:
    """The answers of each evaluation, one task and message after another.

    Args:
        ledger: the run's.
        strategies: the texts that the run was made with.

    Raises:
        DamagedFile: a file of the run cannot be read.
    """
    names, sizes = model_names(ledger), held_out_sizes(ledger)
    units: dict[tuple[str, str], list[AnsweredUnit]] = {}
    for unit in answered_units(ledger):
        model = names[label_of(unit.receipt), unit.receipt.stage_key]
        units.setdefault((model, unit.receipt.group), []).append(unit)
    for (model, task), answered in units.items():
        receipts = [unit.receipt for unit in answered]
        problems: dict[str, Problem] = {}
        scores: dict[str, dict[str, StudentScore]] = {}
        for unit in answered:
            receipt = unit.receipt
            asked = ledger.units["evaluation_problems", unit.problems].accepted
            for problem in read_records(ledger.run_dir, asked, Problem):
                problems[problem.problem_id] = problem
            # Two evaluations under one message answer alike, and may both be there in part.
            for score in read_records(ledger.run_dir, receipt.accepted, StudentScore):
                scores.setdefault(score.strategy, {})[score.problem_id] = score
        files = [ledger.run_dir / receipt.accepted.path for receipt in receipts]
        times = sorted(datetime.fromtimestamp(os.stat(file).st_mtime, UTC) for file in files)
        lost = {unit.problems: unit.num_lost for unit in answered}
        first = receipts[0]
        for message, answers in scores.items():
            yield TaskAnswers(
                model=model,
                about=read_about(ledger.run_dir, label_of(first), first.stage_key),
                stage_key=first.stage_key,
                message=message,
                task=task,
                samples=tuple(
                    _sample(problems[item], score, strategies) for item, score in answers.items()
                ),
                num_items=max(len(answers), sizes.get(task, 0)),
                num_lost=sum(lost.values()),
                began=times[0],
                ended=times[-1],
            )


def _sample(problem: Problem, score: StudentScore, strategies: Strategies) -> Sample:
    system = strategies.system_message(score.strategy, problem)
    prompt = prompt_messages(system, user_text(problem, strategies))
    made = score.completions or (score.completion,)
    conversation = list(prompt)
    further = strategies.further_calls.get(score.strategy, ())
    for place, completion in enumerate(made):
        if place:
            conversation.append(Message(role="user", content=further[completion.call - 1]))
        conversation.append(
            Message(role="assistant", content=completion.text, reasoning=completion.reasoning)
        )
    return Sample(problem=problem, score=score, prompt=prompt, conversation=tuple(conversation))
