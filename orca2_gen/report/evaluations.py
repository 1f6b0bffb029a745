"""The committed scores of models on held-out tasks -> accuracies and paired differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.selection.decision import wilson_interval
from orca2_gen.tasks.counts import task_of

MACRO = "all tasks"
_Z = 1.959964


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """A model on one task under one message; of all tasks together, the mean of the tasks'."""

    model: str
    message: str
    task: str
    mean: float
    low: float
    """Lower end of the 95% interval; `high` is the upper."""
    high: float
    num: int
    """Items that are answered."""
    of: int
    """All items; more than `num` while an evaluation goes on, or where it was stopped."""
    truncated: float
    """Share of the answers that ended at their limit of tokens."""
    unparsed: float
    """Share of those in which the grader found no answer."""
    forced: float
    """Share of those whose verdict rests on a forced ending."""
    tokens: float
    """Mean tokens of an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A later model against the first on the items that both answered, under one message."""

    first: str
    second: str
    message: str
    task: str
    mean: float
    """Of the second less the first."""
    low: float
    high: float
    num: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to one item."""

    score: float
    outcome: str
    is_forced: bool
    tokens: int


Answers = Mapping[str, Answer]
"""Item -> its answer."""


def evaluations(ledger: Ledger) -> tuple[list[Accuracy], list[Difference]]:
    """Accuracies of each model, and the differences of later ones from the first."""
    found, sizes = _answers(ledger), _sizes(ledger)
    accuracies = [
        accuracy
        for (model, message), tasks in found.items()
        for accuracy in _accuracies(model, message, tasks, sizes)
    ]
    models = list(dict.fromkeys(model for model, _ in found))
    differences = [
        difference
        for model in models[1:]
        for message in dict.fromkeys(message for _, message in found)
        if (models[0], message) in found and (model, message) in found
        for difference in _differences(
            models[0], model, message, found[models[0], message], found[model, message]
        )
    ]
    return accuracies, differences


def _sizes(ledger: Ledger) -> dict[str, int]:
    """Task -> its held-out items."""
    sizes: Counter[str] = Counter()
    for receipt in ledger.committed("evaluation_problems"):
        sizes[task_of(receipt)] += receipt.counts["accepted"]
    return dict(sizes)


def _answers(ledger: Ledger) -> dict[tuple[str, str], dict[str, dict[str, Answer]]]:
    """(model, message) -> task -> item -> answer, in the order of the commits.

    Two models of one name, such as a student before and after it is trained again, are told apart
    by the keys of their units.
    """
    by_key: dict[tuple[str, str], dict[str, dict[str, dict[str, Answer]]]] = {}
    for (stage, unit), receipt in ledger.units.items():
        if stage != "evaluation":
            continue
        label = unit.partition(f"-{receipt.stage_key[:8]}-")[0]
        messages = by_key.setdefault((label, receipt.stage_key[:8]), {})
        for row in read_records(ledger.run_dir, receipt.accepted, StudentScore):
            tasks = messages.setdefault(row.strategy, {})
            tasks.setdefault(row.task, {})[row.problem_id] = Answer(
                score=row.score,
                outcome=row.outcome,
                is_forced=row.is_forced,
                tokens=row.num_answer_tokens,
            )
    labels = Counter(label for label, _ in by_key)
    return {
        (label if labels[label] == 1 else f"{label} {key}", message): tasks
        for (label, key), messages in by_key.items()
        for message, tasks in messages.items()
    }


def _accuracies(
    model: str, message: str, tasks: Mapping[str, Answers], sizes: Mapping[str, int]
) -> list[Accuracy]:
    made = []
    for task, answers in sorted(tasks.items()):
        mean = sum(answer.score for answer in answers.values()) / len(answers)
        low, high = wilson_interval(mean, len(answers))
        made.append(
            Accuracy(
                model=model,
                message=message,
                task=task,
                mean=mean,
                low=low,
                high=high,
                num=len(answers),
                of=max(len(answers), sizes.get(task, 0)),
                **_shares(list(answers.values())),
            )
        )
    # Each task counts alike, so its interval counts by the number of tasks.
    mean = sum(each.mean for each in made) / len(made)
    low = math.sqrt(sum((each.mean - each.low) ** 2 for each in made)) / len(made)
    high = math.sqrt(sum((each.high - each.mean) ** 2 for each in made)) / len(made)
    num = sum(map(len, tasks.values()))
    made.append(
        Accuracy(
            model=model,
            message=message,
            task=f"{MACRO} ({len(tasks)})",
            mean=mean,
            low=max(0.0, mean - low),
            high=min(1.0, mean + high),
            num=num,
            of=max(num, sum(sizes.values())),
            **{
                name: sum(getattr(each, name) for each in made) / len(made)
                for name in ("truncated", "unparsed", "forced", "tokens")
            },
        )
    )
    return made


def _shares(answers: Sequence[Answer]) -> dict[str, float]:
    num = len(answers)
    outcomes = [answer.outcome for answer in answers]
    return {
        "truncated": outcomes.count("truncated") / num,
        "unparsed": outcomes.count("unparsed") / num,
        "forced": sum(answer.is_forced for answer in answers) / num,
        "tokens": sum(answer.tokens for answer in answers) / num,
    }


def _differences(
    first: str,
    second: str,
    message: str,
    before: Mapping[str, Answers],
    after: Mapping[str, Answers],
) -> list[Difference]:
    made, by_task = [], []
    for task in sorted(before.keys() & after.keys()):
        items = before[task].keys() & after[task].keys()
        if not items:
            continue
        values = [after[task][item].score - before[task][item].score for item in sorted(items)]
        by_task.append(values)
        mean, half = _macro([values])
        made.append(_difference(first, second, message, task, mean, half, len(values)))
    if by_task:
        mean, half = _macro(by_task)
        num = sum(map(len, by_task))
        name = f"{MACRO} ({len(by_task)})"
        made.append(_difference(first, second, message, name, mean, half, num))
    return made


def _difference(
    first: str, second: str, message: str, task: str, mean: float, half: float, num: int
) -> Difference:
    return Difference(
        first=first,
        second=second,
        message=message,
        task=task,
        mean=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        num=num,
    )


def _macro(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean of the groups' means of differences, and half of its 95% interval.

    It is the normal one of paired differences, groups independent, after one more pair each that
    speaks for the first and for the second (Agresti and Min, 2005): a few pairs that all agree are
    no certainty.
    """
    means = [sum(group) / len(group) for group in groups]
    variances = []
    for group in groups:
        more = [*group, 1.0, -1.0]
        mean = sum(more) / len(more)
        variances.append(sum((value - mean) ** 2 for value in more) / len(more) ** 2)
    return sum(means) / len(means), _Z * math.sqrt(sum(variances)) / len(groups)
