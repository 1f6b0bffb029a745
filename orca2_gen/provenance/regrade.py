"""A run's stored completions under today's grader.

This says whether they may be graded again, which cells a block takes over, what a judge's stored
replies say about them, and how the verdicts change.

A completion depends on its problem and on the system message, not on the strategies scored beside
it. So all that determines a run's scores must be equal, except the version of the grader, which is
what changes, and the method of the selection (race or full grid, delta, indifference, the requests
that a race keeps open): it decides which cells are asked, and where a block ends. Task files may be
read otherwise, by another version of the readers or with other keys of a task: problems are then
compared one by one (matching.py). A judge's reply depends on the answer and on how the judge was
asked; if those are equal too, it is read again instead of asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.config.schema import Config
from orca2_gen.judging import awaits_judge, judged
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.provenance.recorded import differences, read_recorded
from orca2_gen.provenance.retaught import teaching_difference
from orca2_gen.provenance.stage_keys import stage_determinants
from orca2_gen.records import Problem, Rejection, Selection, StudentScore
from orca2_gen.run_directory.ledger import Ledger, read_ledger, stage_key
from orca2_gen.scoring import regraded
from orca2_gen.selection.decision import cell_value

MAY_DIFFER = ("grader", "race")
"""Determinants of scores that may differ."""
READINGS = ("problems", "evaluation_problems")
"""Stages that read task files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How another run read the problems of a stage."""

    key: str
    """The stage's key there; if it is this run's too, all problems are equal."""
    readers: int | None
    """Version of the readers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A run whose completions are graded again; it is only read."""

    ledger: Ledger
    grader: int
    """Version of the grader whose verdicts its scores hold."""
    has_same_judge: bool
    """Whether this config's judge was asked about its open answers as this config would ask."""
    teaching: str
    """What keeps its rationales from being gone through again here; empty if nothing does."""
    readings: Mapping[str, Reading]
    """Stage of READINGS -> how it was read, if its problems can be compared with this run's."""

    @property
    def run_dir(self) -> Path:
        return self.ledger.run_dir


def open_source(run_dir: Path, config: Config, inputs: Inputs) -> Source:
    """The run in a directory, if a run of `config` on its `inputs` may take over its completions.

    Raises:
        ValueError: it is not a run, is the config's own, holds nothing to grade, or its scores were
            made differently; the message shows the difference.
    """
    root = run_dir.resolve()
    if root == Path(config.run_dir).resolve():
        raise ValueError(
            f"{run_dir} is the config's own run_dir, and a run is never graded again in place; "
            "name a new one with --set run_dir=DIR"
        )
    try:
        recorded = read_recorded(root).stages
    except FileNotFoundError:
        raise ValueError(
            f"{root} holds no config.json: not a run directory; give one that a run wrote"
        ) from None
    if "grader" not in recorded.get("scores", {}):
        raise ValueError(
            f"{root / 'config.json'} does not say which grader made its scores; restore it from a "
            "copy"
        )
    ledger = read_ledger(root)
    scores, taught = ledger.committed("scores"), ledger.committed("rationales")
    if not scores and not taught and not ledger.committed("evaluation"):
        raise ValueError(
            f"{run_dir} holds no scores and no evaluation; give the directory of a run with some"
        )
    problems_key = stage_key("", recorded.get("problems", {}))
    determinants, has_same_judge = stage_determinants(config, inputs), False
    if scores or taught:  # some policies need no scores
        key = stage_key(problems_key, recorded["scores"])
        read = ledger.committed("problems")
        if any(r.stage_key != key for r in scores) or any(
            r.stage_key != problems_key for r in read
        ):
            raise ValueError(
                f"{root / 'config.json'} does not match the scores beside it; "
                "restore it from a copy"
            )
        judging = recorded.get("judgements", {})
        judged_key = stage_key(key, judging)
        has_same_judge = not differences(judging, determinants["judgements"]) and all(
            receipt.stage_key == judged_key for receipt in ledger.committed("judgements")
        )
        found = differences(_fixed(recorded, determinants), _fixed(determinants, recorded))
        if found:
            raise ValueError(
                f"{run_dir} holds scores made differently: {found}; only verdicts can be made "
                "again, so restore the setting, or score with `orca2 run`"
            )
    return Source(
        ledger=ledger,
        grader=recorded["scores"]["grader"],
        has_same_judge=has_same_judge,
        teaching=teaching_difference(ledger, recorded, determinants),
        readings=dict(_readings(ledger, recorded, determinants)),
    )


def _readings(
    ledger: Ledger, recorded: Mapping[str, Any], determinants: Mapping[str, Any]
) -> Iterator[tuple[str, Reading]]:
    for stage in READINGS:
        old, new = recorded.get(stage, {}), determinants[stage]
        key = stage_key("", old)
        if any(receipt.stage_key != key for receipt in ledger.committed(stage)):
            continue  # nobody knows how they were read
        if not differences(_fixed_reading(old, new), _fixed_reading(new, old)):
            yield stage, Reading(key=key, readers=old.get("readers"))


def _fixed_reading(made_of: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The determinants of problems that must be equal in two runs for a comparison of prompts."""
    found = {k: v for k, v in made_of.items() if k not in ("readers", "tasks", "few_shot")}
    tasks, others = made_of.get("tasks", {}), other.get("tasks", {})
    # Ids hold the split. A task that only one of them has shares no id with the other.
    found["tasks"] = {name: {"split": tasks[name]["split"]} for name in tasks.keys() & others}
    if "few_shot" in made_of and "few_shot" in other:  # how examples are written, today and then
        found["few_shot"] = {"text": made_of["few_shot"]["text"]}
    return found


def _fixed(stages: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The determinants that must be equal in two runs, of one of them."""
    scores = {key: value for key, value in stages["scores"].items() if key not in MAY_DIFFER}
    # If student and teacher are one model, their scores have one key and differ in this alone.
    is_teacher = stages.get("selections", {}).get("policy") == "teacher_best"
    scores["role"] = "teacher" if is_teacher else "student"
    problems = _fixed_reading(stages.get("problems", {}), others.get("problems", {}))
    return {"problems": problems, "scores": scores}


def asked_cells(
    scores: Iterable[StudentScore],
    rejections: Iterable[Rejection],
    problems: Sequence[Problem],
    strategies: Sequence[str],
) -> list[StudentScore] | None:
    """The scores of these problems under these strategies, in an engine's order.

    None if one is missing whose problem was not rejected.
    """
    cells = {(score.strategy, score.problem_id): score for score in scores}
    lost = {rejection.problem_id for rejection in rejections}
    ids = [problem.problem_id for problem in problems if problem.problem_id not in lost]
    wanted = [(strategy, problem_id) for strategy in strategies for problem_id in ids]
    if not all(cell in cells for cell in wanted):
        return None
    return [cells[cell] for cell in wanted]


def regrade_all(scores: Sequence[StudentScore], problems: Sequence[Problem]) -> list[StudentScore]:
    """The scores graded again, in order; `problems` holds the problem of each."""
    by_id = {problem.problem_id: problem for problem in problems}

    async def work() -> list[StudentScore]:
        return await asyncio.gather(*(regraded(by_id[s.problem_id], s) for s in scores))

    return asyncio.run(work())


def rejudge_all(
    scores: Iterable[StudentScore],
    problems: Mapping[str, Problem],
    stored: Iterable[StudentScore],
    rejections: Iterable[Rejection],
) -> list[StudentScore] | None:
    """A block's scores with the judge's stored replies to the same answers, in order.

    None if an answer waits for a judge that was never asked about it.

    Args:
        scores: the scores, graded again.
        problems: their problems, by id.
        stored: the judgements of the same block in the other run.
        rejections: problems that the other run lost with the judge; they stay lost.
    """
    cells = {(score.strategy, score.problem_id): score for score in stored}
    lost = {rejection.problem_id for rejection in rejections}
    found: list[StudentScore] = []
    for score in scores:
        if score.problem_id in lost:
            continue
        if awaits_judge(problems[score.problem_id], score):
            old = cells.get((score.strategy, score.problem_id))
            # Without a reply it is ungraded if its turn came and the judge could not be asked.
            was_put = old is not None and (bool(old.judgement) or old.outcome == "ungraded")
            if old is None or not was_put or old.text != score.text:
                return None
            score = judged(score, old.judgement)
            if old.answer and old.answer != score.answer:
                return None  # the judge saw other words of the same text
        found.append(score)
    return found


@dataclass(kw_only=True, slots=True)
class Changes:
    """Counts of changed verdicts; accuracies before and after are over the same cells."""

    num_cells: int = 0
    now_correct: int = 0
    now_not_correct: int = 0
    other: int = 0
    """Cells with another outcome, score or answer that count as neither of the two above."""
    sum_before: float = 0.0
    sum_after: float = 0.0

    def add(self, old: StudentScore, new: StudentScore) -> None:
        """Counts a cell."""
        self.num_cells += 1
        self.sum_before += cell_value(old)
        self.sum_after += cell_value(new)
        was, is_ = old.outcome == "correct", new.outcome == "correct"
        if is_ and not was:
            self.now_correct += 1
        elif was and not is_:
            self.now_not_correct += 1
        elif _verdict(old) != _verdict(new):
            self.other += 1

    @property
    def before(self) -> float:
        return self.sum_before / self.num_cells

    @property
    def after(self) -> float:
        return self.sum_after / self.num_cells


def _verdict(score: StudentScore) -> tuple[str, float, str]:
    return score.outcome, cell_value(score), score.answer


def count_changes(
    changes: dict[tuple[str, str, str], Changes],
    stage: str,
    old: Iterable[StudentScore],
    new: Iterable[StudentScore],
) -> None:
    """Counts cells of `new` against those of `old` in `changes`, by (stage, task, strategy)."""
    before = {(score.strategy, score.problem_id): score for score in old}
    for score in new:
        stored = before.get((score.strategy, score.problem_id))
        if stored is not None:
            changes.setdefault((stage, score.task, score.strategy), Changes()).add(stored, score)


def winner_lines(
    before: Iterable[Selection], after: Iterable[Selection], open_: Collection[str]
) -> Iterator[str]:
    """A line for each group with another winner, and one for the groups that are open."""
    old = {selection.group: selection.strategy for selection in before}
    new = {selection.group: selection.strategy for selection in after}
    decided = [group for group in old if group in new]
    differ = [group for group in decided if new[group] != old[group]]
    for group in differ:
        yield f"{group}: {new[group]} wins, it was {old[group]}"
    if decided and not differ:
        yield "no winner differs"
    if open_:
        named = [f"{name} (it was {old[name]})" if name in old else name for name in open_]
        yield f"open: {', '.join(named)}; `orca2 run` scores, or judges, what is missing"
