"""A run directory -> the facts that its dataset's card tells.

They rest on config.json and the ledger alone, and on the rows of selections; of rejections only the
reasons are read, where a receipt does not count them, one unit at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from orca2_gen.config.schema import RationalesConfig
from orca2_gen.dataset.facts import (
    ChoiceFacts,
    CopiesFacts,
    HeldOutFacts,
    ModelFacts,
    RunFacts,
    SourceFacts,
    StageFacts,
)
from orca2_gen.provenance.about import About
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.records import Rejection, Selection, StrategySummary
from orca2_gen.run_directory.arrow_files import read_records, read_table
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import CAUTIOUS, EMPTY
from orca2_gen.tasks.counts import TaskCounts, stated_reasons, task_of

_STAGES = ("problems", "scores", "judgements", "rationales", "examples")
_ENGINE_OF = {"student": "scores", "teacher": "rationales", "judge": "judgements"}
_SAMPLING = ("run_seed", *RationalesConfig.model_fields)
_DIGESTS = ("model", "tokenizer", "scripted", "run_seed", "rendered")


def run_facts(recorded: Recorded, ledger: Ledger) -> RunFacts | None:
    """The facts of a run; None if only an older version opened it.

    Raises:
        DamagedFile: a file that the ledger lists is damaged.
    """
    about, stages = recorded.about, recorded.stages
    if about is None:
        return None
    reasons = {stage: _reasons(ledger, stage) for stage in _STAGES}
    return RunFacts(
        date=str(about.settings.get("template_date", "")),
        models=tuple(_models(about, stages)),
        sources=tuple(_sources(about, stages, ledger, reasons["problems"])),
        held_out=tuple(
            HeldOutFacts(name=each.name, file=each.file, sha256=each.sha256)
            for each in about.held_out
        ),
        copies=_copies(stages.get("problems", {})),
        sampling=_sampling(stages.get("rationales", {})),
        stages=tuple(_stages(ledger, reasons)),
        choices=tuple(_choices(ledger)),
        settings=about.settings,
        versions=about.versions,
    )


def _models(about: About, stages: Mapping[str, Any]) -> list[ModelFacts]:
    found = []
    rooms = stages.get("problems", {}).get("rooms", {})
    for role, each in about.models.items():
        made_of = stages.get(_ENGINE_OF[role], {}).get("engine") or {}
        if role == "student" and about.settings.get("selection", {}).get("policy") == (
            "teacher_best"
        ):
            made_of = {}  # the scores are the teacher's
        settings = about.settings.get(role, {})
        found.append(
            ModelFacts(
                role=role,
                name=each.name,
                engine=str(settings.get("engine", "vllm")),
                digest=str(made_of.get("model", "")),
                tokenizer=str(rooms.get(role, [""])[0]),
                license=each.license,
                license_from=each.license_from,
                arguments={name: value for name, value in made_of.items() if name not in _DIGESTS},
            )
        )
    return found


def _sources(
    about: About,
    stages: Mapping[str, Any],
    ledger: Ledger,
    reasons: Mapping[str, Counter[str]],
) -> list[SourceFacts]:
    read: dict[str, TaskCounts] = {}
    for receipt in ledger.committed("problems"):
        task = task_of(receipt)
        read.setdefault(task, TaskCounts(task=task)).add(receipt)
    kept = {stage: _accepted(ledger.committed(stage)) for stage in ("rationales", "examples")}
    made_of = stages.get("problems", {}).get("tasks", {})
    found = []
    for name, each in sorted(about.tasks.items()):
        counts, said = read.get(name, TaskCounts(task=name)), made_of.get(name, {})
        found.append(
            SourceFacts(
                task=name,
                file=each.file,
                format=str(said.get("format", "")),
                split=str(said.get("split", "")),
                sha256=str(said.get("sha256", "")),
                license=each.license,
                language=each.language,
                read=counts.input,
                accepted=counts.accepted,
                rejected=counts.rejected,
                passed_over=counts.passed_over,
                near_duplicates=counts.near_duplicates,
                reasons=dict(sorted(reasons.get(name, {}).items())),
                taught=kept["rationales"][name],
                rows=kept["examples"][name],
            )
        )
    return found


def _accepted(receipts: Sequence[Receipt]) -> Counter[str]:
    """Task -> rows that these units accepted."""
    found: Counter[str] = Counter()
    for receipt in receipts:
        found[task_of(receipt)] += receipt.accepted.rows
    return found


def _reasons(ledger: Ledger, stage: str) -> dict[str, Counter[str]]:
    """Task, or the stem of a unit, -> its rejections by reason."""
    found: dict[str, Counter[str]] = {}
    for receipt in ledger.committed(stage):
        if receipt.rejections is None:
            continue
        counts: Mapping[str, int] = stated_reasons(receipt)
        if not counts:
            rows = read_table(ledger.run_dir, receipt.rejections, Rejection)
            counts = {
                each["values"].as_py(): each["counts"].as_py()
                for each in pc.value_counts(rows.column("reason"))
            }
        found.setdefault(task_of(receipt), Counter()).update(counts)
    return found


def _stages(ledger: Ledger, reasons: Mapping[str, Mapping[str, Counter[str]]]) -> list[StageFacts]:
    found = []
    for stage in _STAGES:
        receipts = ledger.committed(stage)
        if not receipts:
            continue
        of_stage = sum(reasons[stage].values(), Counter[str]())
        accepted = sum(receipt.accepted.rows for receipt in receipts)
        rejected = sum(r.rejections.rows for r in receipts if r.rejections is not None)
        found.append(
            StageFacts(
                stage=stage,
                input=sum(receipt.counts["input"] for receipt in receipts),
                accepted=accepted,
                rejected=rejected,
                refused=sum(r.refused.rows for r in receipts if r.refused is not None),
                reasons=dict(sorted(of_stage.items())),
            )
        )
    return found


def _copies(problems: Mapping[str, Any]) -> CopiesFacts | None:
    found = problems.get("copies")
    if not isinstance(found, dict):
        return None
    return CopiesFacts(
        duplicates=bool(found.get("duplicates")),
        contamination=bool(found.get("held_out")),
        near=str(found.get("near", "")),
    )


def _sampling(rationales: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: rationales[name] for name in _SAMPLING if name in rationales}
    engine = rationales.get("engine") or {}
    if found:
        found.setdefault("thoughts", "drop")  # no key says so, as in older runs
    if engine.get("thinking_tokens") is not None:
        found["thinking_tokens"] = engine["thinking_tokens"]
    return dict(sorted(found.items()))


def _choices(ledger: Ledger) -> list[ChoiceFacts]:
    found = []
    for receipt in ledger.committed("selections"):
        for row in read_records(ledger.run_dir, receipt.accepted, Selection):
            means = {each.strategy: each.mean for each in row.summaries if _may_win(each)}
            score = means.pop(row.strategy, None)
            margin = score - max(means.values()) if score is not None and means else None
            found.append(
                ChoiceFacts(
                    group=row.group,
                    strategy=row.strategy,
                    reason=row.reason,
                    score=score,
                    margin=margin,
                    num_scored_problems=row.num_scored_problems,
                    num_problems=row.num_problems,
                    fragile=row.fragile,
                )
            )
    return found


def _may_win(summary: StrategySummary) -> bool:
    """Whether it is a strategy's with a score: the cautious message is scored beside them."""
    return summary.num_scored > 0 and summary.strategy not in (CAUTIOUS, EMPTY)
