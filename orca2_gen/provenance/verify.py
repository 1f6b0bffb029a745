"""A run directory -> what is wrong with it: every listed file, every id's way, and the proof of
erasure, read anew.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.chat import load_chat
from orca2_gen.config.load import engine_directory, read_config
from orca2_gen.config.schema import Config
from orca2_gen.dataset import checked_manifest, read_examples
from orca2_gen.erasure import is_erased, prove
from orca2_gen.provenance.lineage import judged_cells, lineage_faults
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.ledger import Ledger, Receipt, read_ledger, unlisted_files
from orca2_gen.strategies import Strategies, load_strategies

RECORDS: dict[str, type] = {
    "problems": Problem,
    "scores": StudentScore,
    "judgements": StudentScore,
    "selections": Selection,
    "rationales": Rationale,
    "examples": Example,
    "evaluation_problems": Problem,
    "evaluation": StudentScore,
}


MOST_FAULTS = 20
"""Rows that do not follow from what they came from are named up to so many."""


@dataclass(kw_only=True, slots=True)
class Verification:
    """What `orca2 verify` found."""

    findings: list[str] = field(default_factory=list)
    """Each is something wrong; none means that the run is whole."""
    notes: list[str] = field(default_factory=list)
    """What is no fault: open units, files that no line lists."""
    table: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """(stage, input, accepted, rejected, not_needed), counted by id."""


@dataclass(kw_only=True, slots=True)
class _Rows:
    """A stage's committed rows, reduced to what accounting needs."""

    accepted: Counter[Any] = field(default_factory=Counter)
    rejected: Counter[Any] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    """Accepted rows by selection group."""


def verify(run_dir: Path) -> Verification:
    """What is wrong with a run directory, from its files, the student's tokenizer and strategies.

    Raises:
        ValueError: it is no run directory, or its ledger cannot be read.
    """
    if not (run_dir / "config.json").is_file():
        raise ValueError(
            f"{run_dir} holds no config.json: it is no run directory; give the one a run wrote"
        )
    config = read_config(run_dir / "config.json")
    ledger = read_ledger(run_dir)
    found = Verification(notes=list(ledger.torn))
    for path in unlisted_files(ledger):
        found.notes.append(f"{path} is not listed; the next run removes it")
    rows = {stage: _read_stage(ledger, stage, found) for stage in RECORDS}
    selections = _selections(ledger, found)
    _account_problems(rows, found)
    _account_scores(rows, selections, found)
    wanted, judged, lost = judged_cells(ledger, config)
    if wanted:
        found.table.append(("judgements", wanted, judged, lost, 0))
    if wanted > judged + lost:
        found.notes.append("judgements: some answers are still open; run the same command again")
    for stage, previous in (("rationales", "problems"), ("examples", "rationales")):
        _account(rows, stage, rows[previous].accepted, found)
        _check_inputs(ledger, stage, previous, found)
    strategies = load_strategies(config.strategies)
    faults = list(lineage_faults(ledger, config, strategies))
    found.findings += faults[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        found.findings.append(f"and {len(faults) - MOST_FAULTS} more rows that do not follow")
    _check_dataset(run_dir, config, strategies, rows["examples"].accepted, found)
    return found


def _read_stage(ledger: Ledger, stage: str, found: Verification) -> _Rows:
    rows = _Rows()
    for receipt in ledger.committed(stage):
        for entry in receipt.files:
            rejections = entry.path.startswith("rejections/")
            record: type[Any] = Rejection if rejections else RECORDS[stage]
            try:
                records = read_records(ledger.run_dir, entry, record)
            except DamagedFile as error:
                found.findings.append(str(error))
                continue
            keys = Counter(_key(r, receipt) for r in records)
            (rows.rejected if rejections else rows.accepted).update(keys)
            if not rejections:
                rows.groups[receipt.group] += len(records)
        _check_counts(receipt, found)
    for key, times in (rows.accepted + rows.rejected).items():
        if times > 1:
            found.findings.append(f"{stage}: {key} stands {times} times")
    return rows


def _key(record: Any, receipt: Receipt) -> Any:
    stage = receipt.stage
    if isinstance(record, Selection):
        return record.group
    if isinstance(record, Rejection) and stage.endswith("problems"):
        # A row without an id is named by file and line, and two tasks' files may share a name.
        task = receipt.unit.rpartition("-")[0]
        own = record.problem_id.startswith(f"{task}/")
        return record.problem_id if own else f"{task}: {record.problem_id}"
    if isinstance(record, StudentScore):
        # Evaluations of several models hold the same problems.
        return (record.problem_id, record.strategy) if stage != "evaluation" else object()
    return record.problem_id


def _check_counts(receipt: Receipt, found: Verification) -> None:
    accepted = sum(e.rows for e in receipt.files if not e.path.startswith("rejections/"))
    rejected = sum(e.rows for e in receipt.files if e.path.startswith("rejections/"))
    said = receipt.counts
    if (said["accepted"], said["rejected"]) != (accepted, rejected) or said[
        "input"
    ] != accepted + rejected:
        found.findings.append(
            f"{receipt.stage}/{receipt.unit}: the ledger counts {said['accepted']} accepted + "
            f"{said['rejected']} "
            f"rejected of {said['input']}, the files hold {accepted} + {rejected}"
        )


def _check_inputs(ledger: Ledger, stage: str, previous: str, found: Verification) -> None:
    """A committed unit has taken in all that the unit of its name in the stage before accepted."""
    for receipt in ledger.committed(stage):
        before = ledger.units.get((previous, receipt.unit))
        accepted = before.counts["accepted"] if before is not None else 0
        if receipt.counts["input"] != accepted:
            found.findings.append(
                f"{stage}/{receipt.unit}: took in {receipt.counts['input']} rows, "
                f"{previous}/{receipt.unit} accepted {accepted}"
            )


def _selections(ledger: Ledger, found: Verification) -> list[Selection]:
    selections: list[Selection] = []
    for receipt in ledger.committed("selections"):
        try:
            selections += read_records(ledger.run_dir, receipt.files[0], Selection)
        except DamagedFile:
            continue  # _read_stage has said so
    return selections


def _account_problems(rows: dict[str, _Rows], found: Verification) -> None:
    for stage in ("problems", "evaluation_problems"):
        accepted, rejected = rows[stage].accepted.total(), rows[stage].rejected.total()
        if accepted + rejected:
            found.table.append((stage, accepted + rejected, accepted, rejected, 0))


def _account_scores(
    rows: dict[str, _Rows], selections: Iterable[Selection], found: Verification
) -> None:
    """Every problem-strategy cell is scored, rejected with its problem under all strategies, or was
    not needed: beyond what its Selection says was scored.
    """
    cells = not_needed = scored = num_strategies = 0
    for selection in selections:
        num_strategies = len(selection.summaries)
        cells += selection.num_problems * num_strategies
        scored += sum(s.num_scored for s in selection.summaries)
        not_needed += sum(selection.num_problems - s.num_scored for s in selection.summaries)
        if selection.num_problems != rows["problems"].groups[selection.group]:
            found.findings.append(
                f"selections: {selection.group} was selected from {selection.num_problems} "
                "problems, "
                f"{rows['problems'].groups[selection.group]} are committed"
            )
    actual = rows["scores"].accepted.total()
    unknown = {problem_id for problem_id, _ in rows["scores"].accepted} - set(
        rows["problems"].accepted
    )
    if unknown:
        found.findings.append(
            f"scores: {len(unknown)} scored problems were never committed, e.g. {min(unknown)}"
        )
    if rows["selections"].accepted:
        rejected = num_strategies * rows["scores"].rejected.total()
        lost = num_strategies * rows["judgements"].rejected.total()
        found.table.append(("scores", cells, actual, rejected, not_needed - rejected - lost))
        if set(rows["selections"].accepted) != set(+rows["problems"].groups):
            found.notes.append("selections: some groups are still open; run the same command again")
        elif scored != actual - lost:
            found.findings.append(
                f"scores: selections rest on {scored} cells, {actual - lost} are committed"
            )
    elif actual:
        found.notes.append(
            f"scores: {actual} cells are committed, no group is decided yet; run the same command "
            "again"
        )


def _account(rows: dict[str, _Rows], stage: str, wanted: Counter[Any], found: Verification) -> None:
    """Accepted + rejected = input, by id."""
    accepted, rejected = rows[stage].accepted, rows[stage].rejected
    if not accepted and not rejected:
        if wanted:
            found.notes.append(f"{stage}: nothing is committed yet")
        return
    found.table.append((stage, wanted.total(), accepted.total(), rejected.total(), 0))
    seen = accepted + rejected
    missing, extra = wanted - seen, seen - wanted
    if extra:
        found.findings.append(f"{stage}: {len(extra)} ids came from nowhere, e.g. {min(extra)}")
    if missing:
        found.notes.append(
            f"{stage}: {len(missing)} ids are still open, e.g. {min(missing)}; run the same "
            "command again"
        )


def _check_dataset(
    run_dir: Path,
    config: Config,
    strategies: Strategies,
    examples: Counter[Any],
    found: Verification,
) -> None:
    root = run_dir / "dataset"
    if not root.exists():
        found.notes.append("dataset: not written yet")
        return
    try:
        manifest = checked_manifest(root)
    except ValueError as error:
        found.findings.append(str(error))
        return
    chat = load_chat(engine_directory(config.student))
    rows = list(read_examples(root, manifest))
    ids = Counter(example.problem_id for example in rows)
    if ids != examples:
        found.findings.append(
            f"dataset: holds {ids.total()} rows of other ids than the {examples.total()} examples"
        )
    found.table.append(("dataset", examples.total(), len(rows), 0, 0))
    said = manifest["summary"]["rows"], sum(entry["rows"] for entry in manifest["files"])
    if said != (len(rows), len(rows)):
        found.findings.append(
            f"dataset: its manifest counts {said} rows, its files hold {len(rows)}"
        )
    if manifest["prompts"] != config.erasure.prompts:
        found.findings.append(
            f"dataset: its manifest says prompts are {manifest['prompts']}, the run's config says "
            f"{config.erasure.prompts}"
        )
    if manifest["prompts"] != "erased":
        found.notes.append(
            f"dataset: prompts are {manifest['prompts']}, so there is no erasure to prove"
        )
        return
    if manifest["tokenizer_digest"] != chat.digest:
        found.findings.append(
            "dataset: was encoded by another tokenizer or template than the student's"
        )
    if manifest["proof"] is None or manifest["proof"] != json.loads(
        json.dumps(dataclasses.asdict(prove(rows, chat=chat, strategies=strategies)))
    ):
        found.findings.append("dataset: the proof in its manifest is not the proof of its rows")
    unproved = [e.problem_id for e in rows if not is_erased(e, chat=chat, strategies=strategies)]
    if unproved:
        found.findings.append(
            f"dataset: {len(unproved)} prompts are not erased, e.g. {unproved[0]}"
        )
