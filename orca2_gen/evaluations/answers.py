"""The committed scores of models on held-out tasks, without their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from orca2_gen.evaluations.about import STUDENT, label_of, read_about
from orca2_gen.provenance.lineage import unjudged_evaluations
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt, held_out_unit
from orca2_gen.tasks.counts import task_of

JUDGED = "evaluation_judgements"
"""The stage of an evaluation's answers with a judge's verdicts on the open ones."""
_COLUMNS = (
    "problem_id",
    "task",
    "strategy",
    "outcome",
    "score",
    "finish_reason",
    "num_completion_tokens",
    "ending",
    "ending_is_unread",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to one item."""

    score: float
    is_cut: bool
    """Whether its text ended at its limit of tokens."""
    is_unparsed: bool
    """Whether its text ended, and the grader found no answer in it."""
    is_forced: bool
    """Whether the verdict rests on a forced ending."""
    is_ungraded: bool
    """Whether it has no verdict: a formula whose time was up, an open answer whose judge's reply
    could not be read."""
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredUnit:
    """A model's answers to a unit of held-out problems."""

    receipt: Receipt
    """Of the answers with their verdicts: the judge's unit where it has open problems."""
    problems: str
    """The unit of these problems."""
    num_lost: int
    """Problems that could not be asked about, or not be judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A model under one message."""

    model: str
    message: str
    judge: str = ""
    """Key of the judge of its open answers; empty without one."""
    tasks: dict[str, dict[str, Answer]] = field(default_factory=dict)
    """Task -> item -> answer."""
    lost: dict[str, int] = field(default_factory=dict)
    """Unit of held-out problems -> items that could not be asked; each has its reason in
    RUN/rejections."""

    @property
    def lost_tasks(self) -> list[str]:
        """Tasks of which no item could be asked."""
        tasks = {unit.rpartition("-")[0] for unit, num in self.lost.items() if num}
        return sorted(tasks - self.tasks.keys())

    def num_lost(self, task: str) -> int:
        """Items of a task that could not be asked."""
        return sum(num for unit, num in self.lost.items() if unit.rpartition("-")[0] == task)


def held_out_sizes(ledger: Ledger) -> dict[str, int]:
    """Task -> its held-out items."""
    sizes: Counter[str] = Counter()
    for receipt in ledger.committed("evaluation_problems"):
        sizes[task_of(receipt)] += receipt.counts["accepted"]
    return dict(sizes)


def evaluated_models(ledger: Ledger) -> list[Evaluated]:
    """Each model under each message: the config's student first, others in order of their commits.

    Models of one label, such as a model before and after it is trained again, are numbered.
    """
    found: dict[tuple[str, str], Evaluated] = {}
    names = model_names(ledger)
    lost: dict[tuple[str, str], dict[str, int]] = {}
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for unit in answered_units(ledger):
        receipt = unit.receipt
        key = label_of(receipt), receipt.stage_key
        lost.setdefault(key, {})[unit.problems] = unit.num_lost
        about = read_about(ledger.run_dir, *key)
        judge = about.judge_key if about is not None else ""
        for message, task, item, answer in _rows(ledger, receipt):
            asked.setdefault(key, {})[message] = None
            here = names[key], message
            new = Evaluated(model=here[0], message=message, judge=judge)
            evaluated = found.setdefault(here, new)
            evaluated.tasks.setdefault(task, {})[item] = answer
    # A unit all of whose items are lost names no message.
    for key, units in lost.items():
        for message in asked.get(key, ()):
            found[names[key], message].lost.update(units)
    return sorted(found.values(), key=lambda each: each.model.partition(" ")[0] != STUDENT)


def model_names(ledger: Ledger) -> dict[tuple[str, str], str]:
    """Label and key of an evaluation -> the name of its model."""
    models: dict[str, dict[str, list[str]]] = {}
    asked = (each.receipt for each in answered_units(ledger))
    for label, key in dict.fromkeys((label_of(each), each.stage_key) for each in asked):
        about = read_about(ledger.run_dir, label, key)
        same = about.model_key if about is not None else key
        models.setdefault(label, {}).setdefault(same, []).append(key)
    return {
        (label, key): label if len(of_label) == 1 else f"{label} {number}"
        for label, of_label in models.items()
        for number, keys in enumerate(of_label.values(), start=1)
        for key in keys
    }


def answered_units(ledger: Ledger) -> Iterator[AnsweredUnit]:
    """The units of evaluations whose verdicts are final, in the order of the answers' commits."""
    unjudged = unjudged_evaluations(ledger)
    for (stage, unit), answers in ledger.units.items():
        if stage != "evaluation" or unit in unjudged:
            continue
        judged = ledger.units.get((JUDGED, unit))
        lost = answers.counts["rejected"] + (judged.counts["rejected"] if judged else 0)
        yield AnsweredUnit(
            receipt=judged or answers, problems=held_out_unit(answers), num_lost=lost
        )


def _rows(ledger: Ledger, receipt: Receipt) -> Iterator[tuple[str, str, str, Answer]]:
    """Message, task, item and answer of each row; only the columns in question become objects."""
    table = read_table(ledger.run_dir, receipt.accepted, StudentScore).select(_COLUMNS)
    for row in table.to_pylist():
        is_decided = row["outcome"] in ("correct", "incorrect")
        read = [] if row["ending_is_unread"] else row["ending"]
        is_forced = bool(read) and is_decided
        is_cut = row["finish_reason"] == "length"
        answer = Answer(
            score=row["score"],
            is_cut=is_cut,
            is_unparsed=row["outcome"] == "unparsed" or (is_forced and not is_cut),
            is_forced=is_forced,
            is_ungraded=row["outcome"] == "ungraded",
            tokens=row["num_completion_tokens"]
            + sum(each["num_completion_tokens"] for each in read),
        )
        yield row["strategy"], row["task"], row["problem_id"], answer
