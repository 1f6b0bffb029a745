"""`orca2 regrade`: another run's completions under today's grader, as committed units of this one.

Nothing here asks an engine. Problems are taken over as by `--fork`, or read from their task files
if that run read them otherwise; Ray tasks write scores, judgements and evaluations again, under
this run's keys; selections follow from them as in any run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.evaluations.about import unit_prefix
from orca2_gen.evaluations.answers import JUDGED
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.fork import fits, take_over
from orca2_gen.provenance.matching import Matching, match_problems, matching_lines
from orca2_gen.provenance.recorded import record_versions, versions_of
from orca2_gen.provenance.regrade import Changes, Source, count_changes, winner_lines
from orca2_gen.records import Selection, StudentScore
from orca2_gen.run_directory.arrow_files import check_file, read_records
from orca2_gen.run_directory.ledger import committed_rows
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import Group, open_blocks
from ray_jobs.dispatch.leases import UnitLease
from ray_jobs.dispatch.unit_receipts import REGRADED
from ray_jobs.evaluation import read_held_out
from ray_jobs.pipeline import read_tasks, select_strategies
from ray_jobs.regrading import stages
from ray_jobs.regrading.evaluations import (
    Evaluated,
    evaluation_leases,
    message_sets,
    rejudged_leases,
    stored_evaluations,
)
from ray_jobs.regrading.leases import JudgedBlock, Older, RegradeGroupLease
from ray_jobs.regrading.rationales import reteach_leases, teaching_lines
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

_MADE = {"problems": ("scores", "rationales"), "evaluation_problems": ("evaluation",)}
"""Stage of problems -> the stages with completions to them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Regrading:
    """The changes in another run's verdicts, over all calls of `regrade`."""

    changes: dict[tuple[str, str, str], Changes]
    """(`scores`, `judgements` or the evaluation's label, task, strategy) -> its changes."""
    lines: tuple[str, ...]
    """Lines for people: which problems match, what was taken over, which winners differ, what is
    left to an engine."""


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
    record_versions(run.run_dir, versions_of(source.run_dir))
    # A run with scores, or a policy without, has read all its tasks; else a group may still grow.
    has_scores = any(map(source.ledger.committed, _MADE["problems"]))
    matched = _match_problems(run, source)
    older = _older(source, matched.get("problems"))
    problems = committed_problems(run)
    found = groups(problems)
    leases = [regrade_lease(run, group, problems, older) for group in found]
    scores = [lease for lease in leases if lease is not None]
    run_files(run, "scores", stages.regrade_group, scores, total=None)
    if source.has_same_judge:
        replies = [
            lease for group in found for lease in rejudge_leases(run, group, problems, older)
        ]
        run_files(run, "judgements", stages.rejudge_block, replies)
    evaluations = stored_evaluations(run, source, models, matched.get("evaluation_problems"))
    evaluated = evaluation_leases(run, source, evaluations)
    run_files(run, "evaluation", stages.regrade_evaluation, evaluated)
    run_files(run, JUDGED, stages.rejudge_block, rejudged_leases(run, source, evaluations))
    if has_scores:
        select_strategies(run)
        _reteach(run, source, problems, older)
    changes: dict[tuple[str, str, str], Changes] = {}
    for stage, stored, made in _pairs(run, older, evaluations):
        old, new = _scores(source.run_dir, stored), _scores(run.run_dir, made)
        count_changes(changes, stage, old, new)
    lines = [
        line
        for stage, each in matched.items()
        for line in matching_lines(each, stage, source.readings[stage].readers)
    ]
    lines += _stage_lines(run, source, older, evaluations)
    if has_scores:
        open_ = [group.name for group in found if not is_decided(run, group)]
        lines += _order_lines(older, [group for group in found if group.name in open_])
        lines += winner_lines(
            committed_rows(source.ledger, "selections", Selection),
            committed_rows(run.ledger, "selections", Selection),
            open_,
        )
        lines += teaching_lines(run, source, problems)
    return Regrading(changes=changes, lines=tuple(lines))


def _older(source: Source, moved: Matching | None) -> Older:
    if moved is None:
        return Older(ledger=source.ledger, groups=None)
    return Older(ledger=source.ledger, groups=moved.older_groups, of_units=moved.older_units)


def _reteach(run: Run, source: Source, problems: Problems, older: Older) -> None:
    """Commits the rationales that need no further answer, of groups that are decided."""
    if not source.teaching:
        leases = reteach_leases(run, problems, older)
        run_files(run, "rationales", stages.reteach_unit, leases)


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


def _match_problems(run: Run, source: Source) -> dict[str, Matching]:
    """Stage -> the Matching of its problems, which are read here if the other run read them
    otherwise; a stage whose problems are equal is absent.
    """
    strategies, found = run.inputs.strategies, {}
    for stage, made in _MADE.items():
        reading = source.readings.get(stage)
        is_equal = reading is None or reading.key == run.keys[stage]
        if is_equal or not any(map(source.ledger.committed, made)):
            continue
        if stage == "problems":
            read_tasks(run)
            names: tuple[str, ...] = run.rule.strategies
        elif run.config.evaluation.tasks:
            read_held_out(run)
            asked = message_sets(run, source)
            names = tuple(dict.fromkeys(name for each in asked for name in each))
        else:
            continue
        found[stage] = match_problems(source.ledger, run.ledger, stage, names, strategies)
    return found


def _pairs(
    run: Run, older: Older, evaluations: Sequence[Evaluated]
) -> Iterator[tuple[str, list[Receipt], list[Receipt]]]:
    """The displayed stage, the other run's receipts and this run's, of all that no engine made."""
    # By group, since blocks of scores may begin and end elsewhere in the other run.
    for stage in ("scores", "judgements"):
        made = [r for r in run.ledger.committed(stage) if REGRADED in r.counts]
        for group in dict.fromkeys(receipt.group for receipt in made):
            stored = older.units(stage, group)
            yield stage, stored, [receipt for receipt in made if receipt.group == group]
    for each in evaluations:
        evaluated = run.ledger.units.get((each.name.stage, each.name.unit))
        judged = run.ledger.units.get((JUDGED, each.name.unit))
        if evaluated is not None and REGRADED in evaluated.counts:
            label = unit_prefix(each.label, each.stored[0].stage_key).rstrip("-")
            held = each.stored
            if judged is not None and REGRADED in judged.counts:
                held, evaluated = each.judgements, judged
            yield f"evaluation {label}", list(held), [evaluated]


def _scores(run_dir: Path, receipts: Sequence[Receipt]) -> list[StudentScore]:
    return [s for r in receipts for s in read_records(run_dir, r.accepted, StudentScore)]


def _stage_lines(
    run: Run, source: Source, older: Older, evaluations: Sequence[Evaluated]
) -> Iterator[str]:
    """Lines with the number of units of each stage that were regraded, and the grader versions."""
    made = list(_pairs(run, older, evaluations))
    stored = source.ledger.committed("scores")
    if stored:
        scored = [r for stage, _, units in made if stage == "scores" for r in units]
        yield (
            f"scores: {len(scored)} units regraded from {len(stored)}, grader {source.grader} -> "
            f"{GRADER_VERSION}"
        )
        if older.groups is not None:
            kept = sum(
                r.accepted.rows for stage, _, units in made if stage == "scores" for r in units
            )
            total = sum(receipt.accepted.rows for receipt in stored)
            yield f"scores: {kept} of {total} stored answers carried over"
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


def _order_lines(older: Older, open_: Sequence[Group]) -> Iterator[str]:
    """A line that names open groups of which other problems are scored than in the other run."""
    if older.groups is None:
        return
    # The seeded order of a group rests on their number.
    names = [
        group.name
        for group in open_
        if group.num_problems != sum(r.accepted.rows for r in older.units("problems", group.name))
    ]
    if names:
        yield (
            f"order: {', '.join(names)}: the number of problems has changed, and with it the order "
            "in which they are scored"
        )


def regrade_lease(
    run: Run, group: Group, problems: Problems, older: Older
) -> RegradeGroupLease | None:
    """The lease of a group's missing blocks, to make from another run's scores; None if none."""
    stored = older.units("scores", group.name)
    rule = run.rule.of(group)
    made = committed_blocks(run, "scores", group, rule)
    if not stored or not open_blocks(group, rule, survivors_by_block(made, rule)):
        return None
    return RegradeGroupLease(
        source=older.ledger.run_dir,
        group=group,
        rule=rule,
        problems=tuple(receipt.accepted for receipt in problems[group.name]),
        older_problems=older.problems(group.name),
        stored=tuple(stored),
        made=tuple(made.items()),
        stage_key=run.keys["scores"],
        driver=run.driver,
    )


def rejudge_leases(
    run: Run, group: Group, problems: Problems, older: Older
) -> list[UnitLease[JudgedBlock]]:
    """The leases of a group's blocks that are scored, not judged, and judged in another run."""
    stored, older_problems = older.units("judgements", group.name), older.problems(group.name)
    leases = []
    for unit in judge_units(run, group, problems):
        # A judged group is no race, so that a block of the same problems holds the same cells.
        same = tuple(r for r in stored if older_problems is not None or r.unit == unit.name.unit)
        block = JudgedBlock(
            source=older.ledger.run_dir,
            rows=unit.rows,
            older_problems=older_problems,
            scores=unit.scores,
            stored=same,
        )
        what = f"reading the judge's replies on {unit.name.unit} of {block.source} again"
        leases += [UnitLease(name=unit.name, made_from=block, what=what)] if same else []
    return leases
