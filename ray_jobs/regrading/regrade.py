"""`orca2 regrade`: another run's completions under today's grader, as committed units of this one.

Nothing here asks an engine. Problems are taken over as by `--fork`; Ray tasks write scores,
judgements and evaluations again, under this run's keys; selections follow from them as in any run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.fork import fits, take_over
from orca2_gen.provenance.inputs import with_engine
from orca2_gen.provenance.regrade import Changes, Source, count_changes, winner_lines
from orca2_gen.provenance.stage_keys import evaluation_key
from orca2_gen.records import Selection, StudentScore
from orca2_gen.run_directory.arrow_files import check_file, read_records
from orca2_gen.run_directory.ledger import Ledger, committed_rows
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import Group, open_blocks
from ray_jobs.dispatch.leases import UnitLease
from ray_jobs.dispatch.unit_receipts import REGRADED
from ray_jobs.evaluation import engine_of, evaluation_unit
from ray_jobs.pipeline import select_strategies
from ray_jobs.regrading import stages
from ray_jobs.regrading.leases import EvaluatedUnit, JudgedBlock, RegradeGroupLease
from ray_jobs.run import Run
from ray_jobs.stages import run_files
from ray_jobs.units import (
    Problems,
    committed_blocks,
    committed_problems,
    groups,
    is_decided,
    judge_units,
    survivors_by_block,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regrading:
    """The changes in another run's verdicts, over all calls of `regrade`."""

    changes: dict[tuple[str, str, str], Changes]
    """(`scores`, `judgements` or the evaluation's label, task, strategy) -> its changes."""
    lines: tuple[str, ...]
    """Lines for people: what was taken over, which winners differ, what is left to an engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evaluation:
    """A unit of the other run's evaluations and the unit that is made from it."""

    stored: Receipt
    grader: int
    label: str
    name: UnitName
    problems: Receipt


def regrade(run: Run, source: Source, models: Sequence[Path] = ()) -> Regrading:
    """The Regrading of another run, after committing here all that needs no engine.

    These are its problems, scores, judgements and evaluations as far as they fit, and the
    selections that follow; committed units are not made again.

    Args:
        run: a new run, or one that this was called for before.
        source: the other run, which `open_source` has compared with this one's config.
        models: directories of models, evaluated in the other run, that are neither the config's
            student nor the one that the other run trained.

    Raises:
        ValueError: a file of the other run is damaged; committed units stay.
    """
    _take_over_problems(run, source)
    problems = committed_problems(run)
    found = groups(problems)
    leases = [regrade_lease(run, group, problems, source.ledger) for group in found]
    scores = [lease for lease in leases if lease is not None]
    run_files(run, "scores", stages.regrade_group, scores, total=None)
    if source.has_same_judge:
        replies = [
            lease
            for group in found
            for lease in rejudge_leases(run, group, problems, source.ledger)
        ]
        run_files(run, "judgements", stages.rejudge_block, replies)
    evaluations = _evaluations(run, source, models)
    evaluated = _leases(run, source, evaluations)
    run_files(run, "evaluation", stages.regrade_evaluation, evaluated)
    # A run that holds scores has read all its tasks; in any other a group may still grow.
    has_scores = bool(source.ledger.committed("scores"))
    if has_scores:
        select_strategies(run)
    changes: dict[tuple[str, str, str], Changes] = {}
    for stage, stored, made in _pairs(run, source, evaluations):
        old, new = _scores(source.run_dir, stored), _scores(run.run_dir, made)
        count_changes(changes, stage, old, new)
    lines = list(_stage_lines(run, source, evaluations))
    if has_scores:
        open_ = [group.name for group in found if not is_decided(run, group)]
        lines += winner_lines(
            committed_rows(source.ledger, "selections", Selection),
            committed_rows(run.ledger, "selections", Selection),
            open_,
        )
    return Regrading(changes=changes, lines=tuple(lines))


def _take_over_problems(run: Run, source: Source) -> None:
    keys = {stage: run.keys[stage] for stage in ("problems", "evaluation_problems")}
    wanted = [
        receipt
        for name, receipt in source.ledger.units.items()
        if fits(receipt, keys) and name not in run.ledger.units
    ]
    for receipt in wanted:
        for entry in receipt.files:
            check_file(source.run_dir, entry)  # once committed here, it would stay damaged
    if wanted:
        take_over(source.ledger, run.ledger, wanted)


def _evaluations(run: Run, source: Source, models: Sequence[Path]) -> list[_Evaluation]:
    """The other run's evaluation units that would be the same here but for the grader."""
    if not source.ledger.committed("evaluation"):
        return []
    student = run.config.student
    engines = [student, *(engine_of(run.config, model) for model in models)]
    trained = Path(run.config.training.output or source.run_dir / "student")
    if isinstance(student, VLLMEngineConfig) and any(trained.glob("*.safetensors")):
        engines.append(engine_of(run.config, trained))
    problems_key = run.keys["evaluation_problems"]
    found: dict[str, _Evaluation] = {}
    for engine in engines:
        inputs = with_engine(run.inputs, engine)
        key = evaluation_key(run.config, engine, problems_key, inputs)
        # The key alone records what a unit was made of, so it is made for every grader version.
        for grader in range(GRADER_VERSION, 0, -1):
            old = evaluation_key(run.config, engine, problems_key, inputs, grader)
            for stored in source.ledger.committed("evaluation"):
                label, _, unit = stored.unit.partition(evaluation_unit("", old, ""))
                problems = run.ledger.units.get(("evaluation_problems", unit))
                if stored.stage_key != old or problems is None:
                    continue
                name = UnitName(
                    stage="evaluation",
                    stage_key=key,
                    unit=evaluation_unit(label, key, unit),
                    group=problems.group,
                    driver=run.driver,
                )
                found.setdefault(
                    name.unit,
                    _Evaluation(
                        stored=stored, grader=grader, label=label, name=name, problems=problems
                    ),
                )
    return list(found.values())


def _leases(
    run: Run, source: Source, evaluations: Sequence[_Evaluation]
) -> list[UnitLease[EvaluatedUnit]]:
    return [
        UnitLease(
            name=each.name,
            made_from=EvaluatedUnit(
                source=source.run_dir,
                problems=each.problems.accepted,
                stored=each.stored,
                messages=run.config.evaluation.messages,
            ),
            what=f"regrading {each.name.unit} of {source.run_dir}",
        )
        for each in evaluations
        if (each.name.stage, each.name.unit) not in run.ledger.units
    ]


def _pairs(
    run: Run, source: Source, evaluations: Sequence[_Evaluation]
) -> Iterator[tuple[str, list[Receipt], list[Receipt]]]:
    """The displayed stage, the other run's receipts and this run's, of all that no engine made."""
    # By group, since blocks of scores may begin and end elsewhere in the other run.
    for stage in ("scores", "judgements"):
        made = [r for r in run.ledger.committed(stage) if REGRADED in r.counts]
        for group in dict.fromkeys(receipt.group for receipt in made):
            stored = [r for r in source.ledger.committed(stage) if r.group == group]
            yield stage, stored, [receipt for receipt in made if receipt.group == group]
    for each in evaluations:
        evaluated = run.ledger.units.get((each.name.stage, each.name.unit))
        if evaluated is not None and REGRADED in evaluated.counts:
            label = evaluation_unit(each.label, each.stored.stage_key, "").rstrip("-")
            yield f"evaluation {label}", [each.stored], [evaluated]


def _scores(run_dir: Path, receipts: Sequence[Receipt]) -> list[StudentScore]:
    return [s for r in receipts for s in read_records(run_dir, r.accepted, StudentScore)]


def _stage_lines(run: Run, source: Source, evaluations: Sequence[_Evaluation]) -> Iterator[str]:
    """Lines with the number of units of each stage that were regraded, and the grader versions."""
    made = list(_pairs(run, source, evaluations))
    stored = source.ledger.committed("scores")
    if stored:
        num = sum(len(units) for stage, _, units in made if stage == "scores")
        yield (
            f"scores: {num} units regraded from {len(stored)}, grader {source.grader} -> "
            f"{GRADER_VERSION}"
        )
    stored = source.ledger.committed("judgements")
    if stored:
        num = sum(len(units) for stage, _, units in made if stage == "judgements")
        yield f"judgements: {num} of {len(stored)} units made from the judge's stored replies"
        if not source.has_same_judge:
            yield "judgements: the judge is another one or asked differently; `orca2 run` asks it"
    stored = source.ledger.committed("evaluation")
    if stored:
        num = sum(stage.startswith("evaluation ") for stage, _, _ in made)
        versions = ", ".join(map(str, sorted({each.grader for each in evaluations}))) or "unknown"
        yield (
            f"evaluation: {num} of {len(stored)} units regraded, grader {versions} -> "
            f"{GRADER_VERSION}"
        )
        if num < len(stored):
            yield (
                "evaluation: the rest were made with other settings, were regraded before, or "
                "belong to a model that is not named; name it with --model DIR"
            )


def regrade_lease(
    run: Run, group: Group, problems: Problems, source: Ledger
) -> RegradeGroupLease | None:
    """The lease of a group's missing blocks, to make from another run's scores; None if none."""
    stored = [r for r in source.committed("scores") if r.group == group.name]
    rule = run.rule.of(group)
    made = committed_blocks(run, "scores", group, rule)
    if not stored or not open_blocks(group, rule, survivors_by_block(made, rule)):
        return None
    return RegradeGroupLease(
        source=source.run_dir,
        group=group,
        rule=rule,
        problems=tuple(receipt.accepted for receipt in problems[group.name]),
        stored=tuple(stored),
        made=tuple(made.items()),
        stage_key=run.keys["scores"],
        driver=run.driver,
    )


def rejudge_leases(
    run: Run, group: Group, problems: Problems, source: Ledger
) -> list[UnitLease[JudgedBlock]]:
    """The leases of a group's blocks that are scored, not judged, and judged in another run."""
    # A judged group is no race, so that a block holds the same cells in both.
    found = [
        (unit, source.units.get(("judgements", unit.name.unit)))
        for unit in judge_units(run, group, problems)
    ]
    return [
        UnitLease(
            name=unit.name,
            made_from=JudgedBlock(
                source=source.run_dir, rows=unit.rows, scores=unit.scores, stored=stored
            ),
            what=f"reading the judge's replies on {unit.name.unit} of {source.run_dir} again",
        )
        for unit, stored in found
        if stored is not None
    ]
