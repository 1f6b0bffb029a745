"""The whole path, stage by stage; each stage commits its units to the ledger and can run again.

tasks -> problems -> scores -> selections -> rationales -> examples -> dataset

Open answers are judged between scores and selections; evaluation is no part of this path.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.exceptions import RayTaskError

from orca2_gen.config.arguments import (
    Room,
    engine_rendering,
    rooms,
    scored_roles,
    scores_teacher,
    task_source,
)
from orca2_gen.config.load import engine_directory
from orca2_gen.config.task import TaskConfig
from orca2_gen.dataset.figures import DatasetSummary
from orca2_gen.dataset.write import DatasetPlan
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.foresight.amounts import Races, TaughtUnits
from orca2_gen.run_directory.units import Receipt
from orca2_gen.tasks.counts import TaskCounts, counts_by_task, example_of
from orca2_gen.tasks.soundness import notes_on
from ray_jobs import file_stages
from ray_jobs.decontamination import found_copies
from ray_jobs.dispatch.leases import EngineUnit, ReadLease, Rows, UnitLease
from ray_jobs.dispatch.receipts import check_task, unwrapped
from ray_jobs.overlapped import score_and_teach
from ray_jobs.run import Run
from ray_jobs.stages import run_engines, run_files
from ray_jobs.units import (
    committed_problems,
    groups,
    judge_units,
    problem_rows,
    score_units,
    select_leases,
    teach_units,
    unit_name,
)


def run_all(run: Run) -> DatasetSummary:
    """The dataset of a run, made from its tasks; committed units are not made again."""
    read_tasks(run)
    if _is_overlapped(run):
        score_and_teach(run)
    else:
        score_student(run)
        judge_answers(run)
        select_strategies(run)
        teach(run)
    erase(run)
    return build_dataset(run)


def _is_overlapped(run: Run) -> bool:
    # Only the student's scoring overlaps with anything.
    if run.config.dispatch.schedule != "overlapped" or "student" not in scored_roles(run.config):
        return False
    # A third model beside two that share the devices would start and end with every block.
    is_judged = run.config.needed_judge is not None
    if is_judged:
        run.say("schedule: phased, since open answers are judged between scoring and selecting")
    return not is_judged


def read_tasks(run: Run) -> None:
    """Commits every task file as problems that fit all engines, none of them a copy."""
    room = rooms(run.config, run.inputs.strategies)
    with found_copies(run) as copies:
        read_task_files(run, "problems", run.config.tasks, room, copies)


def score_student(run: Run) -> None:
    """Commits the scores of every block that the policy needs, of the model that it looks at."""
    problems = committed_problems(run)
    found = {group.name: group for group in groups(problems)}
    units = [unit for group in found.values() for unit in score_units(run, group, problems)]
    scored = run.config.teacher if scores_teacher(run.config) else run.config.student

    def next_block(receipt: Receipt) -> list[EngineUnit]:
        group = found[receipt.group]
        # A judged group is no race: its blocks are known from the start.
        return [] if group.is_judged else score_units(run, group, problems)

    is_race = run.rule.is_race

    def rows_ahead(group: str, numbers: Sequence[int]) -> Rows:
        return problem_rows(problems[group], numbers)

    committed = tuple(run.ledger.committed("scores"))
    run_engines(
        *(run, "scores", scored, units, next_block if is_race else None),
        successor=run.config.needed_judge or run.config.teacher,
        rows_ahead=rows_ahead if is_race else None,
        amount=Races(
            run_dir=run.run_dir, groups=tuple(found.values()), rule=run.rule, committed=committed
        ),
    )


def judge_answers(run: Run) -> None:
    """Commits the judgements of every committed block of groups with open problems."""
    problems = committed_problems(run)
    units = [unit for group in groups(problems) for unit in judge_units(run, group, problems)]
    if run.config.needed_judge is not None:
        run_engines(run, "judgements", run.config.needed_judge, units, successor=run.config.teacher)


def select_strategies(run: Run) -> None:
    """Commits one Selection per group."""
    found = groups(committed_problems(run))
    leases = [lease for group in found for lease in select_leases(run, group)]
    run_files(run, "selections", file_stages.select_strategy, leases)


def teach(run: Run) -> None:
    """Commits the teacher's rationales for every problem, under its group's selected strategy.

    Raises:
        ValueError: a group has no selection yet.
    """
    problems = committed_problems(run)
    found = groups(problems)
    undecided = [g.name for g in found if ("selections", g.stem) not in run.ledger.units]
    if undecided or not run.ledger.committed("problems"):
        raise ValueError(
            f"{run.run_dir} holds no selection for {', '.join(undecided[:5]) or 'any task'}; "
            f"run `orca2 score` first"
        )
    units = {group.name: teach_units(run, group, problems) for group in found}
    run_engines(
        *(
            run,
            "rationales",
            run.config.teacher,
            [unit for each in units.values() for unit in each],
        ),
        amount=TaughtUnits(
            run_dir=run.run_dir,
            units={
                unit.name.unit: (group, unit.num_requests)
                for group, each in units.items()
                for unit in each
            },
            selections={
                group.name: run.ledger.units["selections", group.stem].accepted
                for group in found
                if units[group.name]
            },
        ),
    )


def erase(run: Run) -> None:
    """Commits the training examples: instruction erased, encoded for the student."""
    leases = [
        UnitLease(
            name=unit_name(run, "examples", receipt.unit, receipt.group),
            made_from=receipt.accepted,
            what=f"examples of {receipt.accepted.path}",
        )
        for receipt in run.ledger.committed("rationales")
        if ("examples", receipt.unit) not in run.ledger.units
    ]
    run_files(run, "examples", file_stages.erase_rationales, leases)


def build_dataset(run: Run) -> DatasetSummary:
    """The summary of the dataset of all committed examples, written with proof and manifest."""
    started = time.monotonic()
    plan = DatasetPlan(
        examples=tuple(receipt.accepted for receipt in run.ledger.committed("examples")),
        tokenizer=engine_directory(run.config.student),
        prompts=run.config.erasure.prompts,
        examples_per_shard=run.config.dataset.examples_per_shard,
        has_reasoning=run.config.rationales.thoughts == "keep",
        key=run.keys["examples"],
        name=run.run_dir.name,
    )
    rendering = engine_rendering(run.config.student, run.inputs.template_date)
    build = ray.remote(num_cpus=1, max_retries=0)(file_stages.make_dataset)
    with run.track("dataset", None):
        try:
            built: tuple[DatasetSummary, list[str]] = ray.get(
                build.remote(run.run_dir, run.inputs, plan, rendering)
            )
        except RayTaskError as error:
            raise unwrapped(error) from None
    summary, lines = built
    for line in lines:
        run.say(line)
    run.seconds["dataset"] = time.monotonic() - started
    return summary


def read_task_files(
    run: Run,
    stage: str,
    tasks: Sequence[TaskConfig],
    rooms: tuple[Room, ...],
    copies: Path | None = None,
) -> None:
    """Commits the rows of every task, and says of each how many were accepted and rejected.

    Raises:
        TooManyRejections: too many in a task, or in all of them together.
        ValueError: files of a task cannot be read to their end, or hold no row.
    """
    committed = frozenset(receipt.unit for receipt in run.ledger.committed(stage))
    leases = [
        ReadLease(
            task=task,
            rows_per_unit=run.config.rows_per_unit,
            rooms=rooms,
            stage=stage,
            stage_key=run.keys[stage],
            driver=run.driver,
            committed=committed,
            copies=copies,
        )
        for task in tasks
    ]
    for task in tasks:
        for line in notes_on(task_source(task)):
            run.say(line)
    try:
        run_files(run, stage, file_stages.read_problems, leases, total=None)
    except TooManyRejections:
        _say_counts(run, stage)
        raise
    for counts in _say_counts(run, stage):
        example = functools.partial(
            example_of, run.ledger, stage, counts.task, counts.most_frequent
        )
        check_task(counts, stage, run.config.dispatch, example)


def _say_counts(run: Run, stage: str) -> list[TaskCounts]:
    """The counts of every task of a stage that reads, after a line about each."""
    found = list(counts_by_task(run.ledger, stage).values())
    for counts in found:
        run.say(counts.sentence)
    return found
