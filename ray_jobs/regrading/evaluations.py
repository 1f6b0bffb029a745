"""Another run's evaluations -> the leases of the same ones here, under today's grader."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.evaluations.about import label_of, read_about, unit_prefix, write_about
from orca2_gen.evaluations.answers import JUDGED
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.evaluation_keys import evaluation_key, with_evaluating
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.provenance.matching import Matching
from orca2_gen.provenance.regrade import Source
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.strategies import CAUTIOUS, EMPTY
from ray_jobs.dispatch.leases import UnitLease
from ray_jobs.evaluation import (
    about_evaluation,
    all_rows,
    asked_under,
    engine_of,
    evaluation_name,
)
from ray_jobs.regrading.leases import EvaluatedUnit, JudgedBlock, OlderProblems
from ray_jobs.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A unit of this run's evaluations, and the other run's units that may hold its answers."""

    stored: tuple[Receipt, ...]
    judgements: tuple[Receipt, ...]
    """The other run's units of a judge's verdicts on these answers."""
    grader: int
    """Version of the grader whose verdicts they hold."""
    label: str
    messages: tuple[str, ...]
    """The model's name in unit names."""
    name: UnitName
    problems: Receipt
    older_problems: OlderProblems


def stored_evaluations(
    run: Run, source: Source, models: Sequence[Path], matching: Matching | None
) -> list[Evaluated]:
    """The evaluation units that the other run answered as this one would.

    Args:
        run: this run, which has its held-out problems.
        source: the other run.
        models: directories of models, beside the student and the model that the other run trained.
        matching: the Matching of the held-out problems; None if they are equal.
    """
    if "evaluation_problems" not in source.readings or not source.ledger.committed("evaluation"):
        return []
    student = run.config.student
    engines = [student, *(engine_of(run.config, model) for model in models)]
    trained = Path(run.config.training.output or source.run_dir / "student")
    if isinstance(student, VLLMEngineConfig) and any(trained.glob("*.safetensors")):
        engines.append(engine_of(run.config, trained))
    found: dict[str, Evaluated] = {}
    for engine in engines:
        inputs = with_evaluating(run.config, run.inputs, engine)
        for messages in message_sets(run, source):
            for each in _of_engine(run, source, inputs, engine, messages, matching):
                found.setdefault(each.name.unit, each)
    return list(found.values())


def message_sets(run: Run, source: Source) -> list[tuple[str, ...]]:
    """The messages of this config, and those that the other run has evaluated models under."""
    known = {CAUTIOUS, EMPTY, *run.inputs.strategies.names}
    keys = dict.fromkeys((label_of(r), r.stage_key) for r in source.ledger.committed("evaluation"))
    abouts = [read_about(source.run_dir, *key) for key in keys]
    asked = [tuple(about.messages) for about in abouts if about is not None]
    sets = (run.config.evaluation.messages, *(names for names in asked if set(names) <= known))
    return list(dict.fromkeys(sets))


def _of_engine(
    run: Run,
    source: Source,
    inputs: Inputs,
    engine: EngineConfig,
    messages: tuple[str, ...],
    matching: Matching | None,
) -> Iterator[Evaluated]:
    """The units of one model under these messages, those of the newest grader first."""
    config = asked_under(run.config, messages)
    problems_key = run.keys["evaluation_problems"]
    key = evaluation_key(config, engine, problems_key, inputs)
    older_key = source.readings["evaluation_problems"].key
    # The key alone records what a unit was made of, so it is made for every grader version.
    for grader in range(GRADER_VERSION, 0, -1):
        old = evaluation_key(config, engine, older_key, inputs, grader)
        by_label: dict[str, dict[str, Receipt]] = {}
        for receipt in source.ledger.committed("evaluation"):
            if receipt.stage_key == old:
                label, _, unit = receipt.unit.partition(unit_prefix("", old))
                by_label.setdefault(label, {})[unit] = receipt
        for label, units in by_label.items():
            about = about_evaluation(config, label, engine, problems_key, inputs)
            write_about(run.run_dir, about)
            for problems in run.ledger.committed("evaluation_problems"):
                held = _older_units(problems.unit, matching)
                stored = tuple(units[unit] for unit in held if unit in units)
                if not stored:
                    continue
                yield Evaluated(
                    stored=stored,
                    judgements=tuple(
                        source.ledger.units[JUDGED, receipt.unit]
                        for receipt in stored
                        if (JUDGED, receipt.unit) in source.ledger.units
                    ),
                    grader=grader,
                    label=label,
                    messages=messages,
                    name=evaluation_name(run, label, key, problems),
                    problems=problems,
                    older_problems=None if matching is None else _older_problems(source, held),
                )


def _older_units(unit: str, matching: Matching | None) -> list[str]:
    """The other run's units of held-out problems that hold those of a unit."""
    return [unit] if matching is None else sorted(matching.older_units.get(unit, ()))


def _older_problems(source: Source, units: Sequence[str]) -> OlderProblems:
    receipts = source.ledger.units
    return tuple(receipts["evaluation_problems", unit].accepted for unit in units)


def evaluation_leases(
    run: Run, source: Source, evaluations: Sequence[Evaluated]
) -> list[UnitLease[EvaluatedUnit]]:
    """The leases of the units that are not committed here."""
    return [
        UnitLease(
            name=each.name,
            made_from=EvaluatedUnit(
                source=source.run_dir,
                problems=each.problems.accepted,
                older_problems=each.older_problems,
                stored=each.stored,
                messages=each.messages,
            ),
            what=f"regrading {each.name.unit} of {source.run_dir}",
        )
        for each in evaluations
        if (each.name.stage, each.name.unit) not in run.ledger.units
    ]


def rejudged_leases(
    run: Run, source: Source, evaluations: Sequence[Evaluated]
) -> list[UnitLease[JudgedBlock]]:
    """The leases of the units that are answered here, not judged, and judged in the other run."""
    leases = []
    for each in evaluations:
        name = dataclasses.replace(each.name, stage=JUDGED)
        answers = run.ledger.units.get((each.name.stage, each.name.unit))
        if answers is None or not each.judgements or (JUDGED, name.unit) in run.ledger.units:
            continue
        block = JudgedBlock(
            source=source.run_dir,
            rows=all_rows(each.problems),
            older_problems=each.older_problems,
            scores=answers.accepted,
            stored=each.judgements,
        )
        what = f"reading the judge's replies on {name.unit} of {source.run_dir} again"
        leases.append(UnitLease(name=name, made_from=block, what=what))
    return leases
