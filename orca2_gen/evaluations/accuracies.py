"""The answers of models to held-out tasks -> accuracies and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.evaluations.answers import Answer, Evaluated, evaluated_models, held_out_sizes
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.selection.decision import wilson_interval

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
    """All items; more than `num` and `lost` while an evaluation goes on, or was stopped."""
    lost: int
    """Items that could not be asked, such as prompts too long for this model; they count as
    nothing."""
    unforced: float
    """The mean with forced answers as wrong ones."""
    truncated: float
    """Share of the answers whose text ended at its limit of tokens, whatever followed."""
    unparsed: float
    """Share of those whose text ended without an answer that the grader could read."""
    forced: float
    """Share of those whose verdict rests on a forced ending."""
    ungraded: float
    """Share of those without a verdict, of the grader or the judge; they count as wrong."""
    tokens: float
    """Mean tokens of an answer."""
    is_macro: bool
    """Whether it is of all tasks together."""

    @property
    def items(self) -> str:
        """Items that are answered, of all, and those lost, in words."""
        words = f"{self.num}" if self.num == self.of else f"{self.num} of {self.of}"
        return words + (f", {self.lost} lost" if self.lost else "")


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


def evaluations(ledger: Ledger) -> tuple[list[Accuracy], list[Difference]]:
    """Accuracies of each model, and the differences of later ones from the first.

    A judge's verdicts are compared with its own alone: the first is the first under each judge.
    """
    found, sizes = evaluated_models(ledger), held_out_sizes(ledger)
    accuracies = [accuracy for each in found for accuracy in _accuracies(each, sizes)]
    firsts: dict[str, str] = {}
    for each in found:
        firsts.setdefault(each.judge, each.model)
    by_name = {(each.model, each.message): each for each in found}
    differences = [
        difference
        for model in dict.fromkeys(each.model for each in found)
        for message in dict.fromkeys(each.message for each in found)
        if (after := by_name.get((model, message))) is not None
        if model != firsts[after.judge]
        if (before := by_name.get((firsts[after.judge], message))) is not None
        for difference in _differences(before, after)
    ]
    return accuracies, differences


def _accuracies(evaluated: Evaluated, sizes: Mapping[str, int]) -> list[Accuracy]:
    made = []
    for task, answers in sorted(evaluated.tasks.items()):
        mean = sum(answer.score for answer in answers.values()) / len(answers)
        low, high = wilson_interval(mean, len(answers))
        made.append(
            Accuracy(
                model=evaluated.model,
                message=evaluated.message,
                task=task,
                mean=mean,
                low=low,
                high=high,
                num=len(answers),
                of=max(len(answers), sizes.get(task, 0)),
                lost=evaluated.num_lost(task),
                is_macro=False,
                **_shares(list(answers.values())),
            )
        )
    # Each task counts alike, so its interval counts by the number of tasks.
    mean = sum(each.mean for each in made) / len(made)
    low = math.sqrt(sum((each.mean - each.low) ** 2 for each in made)) / len(made)
    high = math.sqrt(sum((each.high - each.mean) ** 2 for each in made)) / len(made)
    num = sum(each.num for each in made)
    without = f" of {len(made) + len(evaluated.lost_tasks)}" if evaluated.lost_tasks else ""
    made.append(
        Accuracy(
            model=evaluated.model,
            message=evaluated.message,
            task=f"{MACRO} ({len(made)}{without})",
            mean=mean,
            low=max(0.0, mean - low),
            high=min(1.0, mean + high),
            num=num,
            of=max(num, sum(sizes.values())),
            lost=sum(evaluated.lost.values()),
            is_macro=True,
            **{
                name: sum(getattr(each, name) for each in made) / len(made)
                for name in ("unforced", "truncated", "unparsed", "forced", "ungraded", "tokens")
            },
        )
    )
    return made


def _shares(answers: Sequence[Answer]) -> dict[str, float]:
    num = len(answers)
    return {
        "unforced": sum(0.0 if each.is_forced else each.score for each in answers) / num,
        "truncated": sum(each.is_cut for each in answers) / num,
        "unparsed": sum(each.is_unparsed for each in answers) / num,
        "forced": sum(each.is_forced for each in answers) / num,
        "ungraded": sum(each.is_ungraded for each in answers) / num,
        "tokens": sum(each.tokens for each in answers) / num,
    }


def _differences(before: Evaluated, after: Evaluated) -> list[Difference]:
    made, by_task = [], []
    for task in sorted(before.tasks.keys() & after.tasks.keys()):
        first, second = before.tasks[task], after.tasks[task]
        items = sorted(first.keys() & second.keys())
        if not items:
            continue
        values = [second[item].score - first[item].score for item in items]
        by_task.append(values)
        made.append(_difference(before, after, task, [values]))
    if by_task:
        made.append(_difference(before, after, f"{MACRO} ({len(by_task)})", by_task))
    return made


def _difference(
    before: Evaluated, after: Evaluated, task: str, groups: Sequence[Sequence[float]]
) -> Difference:
    mean, half = _macro(groups)
    return Difference(
        first=before.model,
        second=after.model,
        message=before.message,
        task=task,
        mean=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        num=sum(map(len, groups)),
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
