"""Committed rows counted by id: accepted + rejected + not needed = input, at every stage.

A problem may have several rationales. Up to them problems are counted by problem_id, from them on
rows by problem_id and attempt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.provenance.unit_faults import Places, origin_faults, unit_faults, unit_table
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.record_tables import from_table
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.units import EVALUATIONS, Receipt

RECORDS: dict[str, type] = {
    "problems": Problem,
    "scores": StudentScore,
    "judgements": StudentScore,
    "selections": Selection,
    "rationales": Rationale,
    "examples": Example,
    "evaluation_problems": Problem,
    "evaluation": StudentScore,
    "evaluation_judgements": StudentScore,
}


@dataclass(kw_only=True, slots=True)
class Verification:
    """The result of `orca2 verify`."""

    findings: list[str] = field(default_factory=list)
    """Faults; without any the run is whole."""
    notes: list[str] = field(default_factory=list)
    """Lines about what is not a fault: open units, files that no line lists."""
    table: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """(stage, input, accepted, rejected, not_needed), counted by id; rationales by problem."""
    several: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stage of which problems have several rows -> its accepted rows and their problems."""
    verdict: str = ""
    """What the proof of erasure says, in one line; empty if there is nothing to prove."""


@dataclass(kw_only=True, slots=True)
class StageRows:
    """A stage's committed rows, reduced to what accounting needs."""

    accepted: Counter[Any] = field(default_factory=Counter)
    rejected: Counter[Any] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    """Accepted rows by selection group."""
    unnamed: set[str] = field(default_factory=set)
    """Problems whose rows stand in files of an older version, which name no attempt."""
    selections: list[Selection] = field(default_factory=list)
    """All accepted rows of the stage of selections."""
    is_whole: bool = True
    """Whether every file could be read; if not, ids are missing here that are committed."""

    @property
    def by_problem(self) -> Counter[str]:
        """The problems of accepted rows of a problem and attempt, each once."""
        return Counter({problem_id for problem_id, _ in self.accepted})


def read_stage(ledger: Ledger, stage: str, places: Places, found: Verification) -> StageRows:
    """The rows of a stage, counted, with a finding for each file and unit that is not whole.

    Stages come in their order, since `places` takes in what the later ones are compared with.
    """
    rows = StageRows()
    for receipt in ledger.committed(stage):
        accepted, rejected, is_whole = _read_unit(ledger, receipt, rows, found)
        rows.accepted.update(_key(row, receipt) for row in accepted)
        rows.rejected.update(_key(row, receipt) for row in rejected)
        rows.groups[receipt.group] += len(accepted)
        rows.selections += [row for row in accepted if isinstance(row, Selection)]
        if is_whole:
            found.findings += unit_faults(ledger, receipt, accepted, rejected, places)
        else:
            rows.is_whole = False
        _check_counts(receipt, found)
    counted = [rows.accepted + rows.rejected]
    if stage == "rationales":  # a problem with one of them is not rejected
        counted = [rows.accepted, rows.by_problem + rows.rejected]
    for key, times in (item for each in counted for item in each.items()):
        if times > 1:
            found.findings.append(f"{stage}: {_shown(stage, key)} occurs {times} times")
    return rows


def _read_unit(
    ledger: Ledger, receipt: Receipt, rows: StageRows, found: Verification
) -> tuple[list[Any], list[Rejection], bool]:
    """A unit's rows and rejections, and whether all of its files could be read."""
    files: dict[FileEntry, list[Any]] = {}
    is_whole = True
    for entry in receipt.files:
        record = Rejection if entry == receipt.rejections else RECORDS[receipt.stage]
        try:
            table = unit_table(ledger, entry, record)
            found.findings += origin_faults(ledger.run_dir / entry.path, table, receipt)
            files[entry] = from_table(table, record)
            if receipt.stage == "examples" and "attempt" not in table.column_names:
                rows.unnamed.update(row.problem_id for row in files[entry])
        except DamagedFile as error:
            found.findings.append(str(error))
            is_whole = False
    rejected = files.get(receipt.rejections, []) if receipt.rejections is not None else []
    return files.get(receipt.accepted, []), rejected, is_whole


def _key(record: Any, receipt: Receipt) -> Any:
    stage = receipt.stage
    if isinstance(record, Selection):
        return record.group
    if isinstance(record, Rejection) and stage.endswith("problems"):
        # A row without an id is named by file and line, and two tasks' files may share a name.
        task = receipt.unit.rpartition("-")[0]
        own = record.problem_id.startswith(f"{task}/")
        return record.problem_id if own else f"{task}: {record.problem_id}"
    # Evaluations of several models hold the same problems.
    model = receipt.unit.rpartition(f"-{receipt.stage_key[:8]}-")[0]
    evaluated = (model, receipt.stage_key) if stage in EVALUATIONS else ()
    if isinstance(record, StudentScore):
        return (record.problem_id, record.strategy, *evaluated)
    if evaluated:
        return (record.problem_id, *evaluated)
    if isinstance(record, Rationale | Example) or stage == "examples":
        return record.problem_id, record.attempt
    return record.problem_id


def _shown(stage: str, key: Any) -> Any:
    """An id as findings name it."""
    is_attempt = stage in ("rationales", "examples") and isinstance(key, tuple)
    return row_name(*key) if is_attempt else key


def _check_counts(receipt: Receipt, found: Verification) -> None:
    accepted = receipt.accepted.rows
    rejected = receipt.rejections.rows if receipt.rejections is not None else 0
    said = [receipt.counts[name] for name in ("accepted", "rejected", "input")]
    if said != [accepted, rejected, accepted + rejected]:
        found.findings.append(
            f"{receipt.stage}/{receipt.unit}: the ledger counts {said[0]} accepted + {said[1]} "
            f"rejected of {said[2]}, the files hold {accepted} + {rejected}"
        )
    refused = receipt.refused.rows if receipt.refused is not None else 0
    if receipt.counts.get("refused", 0) != refused:
        found.findings.append(
            f"{receipt.stage}/{receipt.unit}: the ledger counts {receipt.counts.get('refused', 0)} "
            f"refused answers, the files hold {refused}"
        )


def check_taken_in(ledger: Ledger, stage: str, previous: str, found: Verification) -> None:
    """Finds units that took in fewer or more rows than their unit in the stage before accepted."""
    for receipt in ledger.committed(stage):
        before = ledger.units.get((previous, receipt.unit))
        accepted = before.counts["accepted"] if before is not None else 0
        if receipt.taken_in != accepted:
            found.findings.append(
                f"{stage}/{receipt.unit}: took in {receipt.taken_in} rows, "
                f"{previous}/{receipt.unit} accepted {accepted}"
            )


def account_problems(rows: dict[str, StageRows], found: Verification) -> None:
    for stage in ("problems", "evaluation_problems"):
        accepted, rejected = rows[stage].accepted.total(), rows[stage].rejected.total()
        if accepted + rejected:
            found.table.append((stage, accepted + rejected, accepted, rejected, 0))


def account_scores(rows: dict[str, StageRows], found: Verification) -> None:
    """Counts each cell as scored, rejected with its problem, or not needed by its Selection."""
    cells = not_needed = scored = num_strategies = 0
    for selection in rows["selections"].selections:
        num_strategies = len(selection.summaries)
        cells += selection.num_problems * num_strategies
        scored += sum(s.num_scored for s in selection.summaries)
        not_needed += sum(selection.num_problems - s.num_scored for s in selection.summaries)
        committed = rows["problems"].groups[selection.group]
        if rows["problems"].is_whole and selection.num_problems != committed:
            found.findings.append(
                f"selections: {selection.group} was selected from {selection.num_problems} "
                f"problems, {committed} are committed"
            )
    actual = rows["scores"].accepted.total()
    unknown = {problem_id for problem_id, _ in rows["scores"].accepted} - set(
        rows["problems"].accepted
    )
    if unknown and rows["problems"].is_whole:
        found.findings.append(
            f"scores: {len(unknown)} scored problems were never committed, e.g. {min(unknown)}"
        )
    if rows["selections"].accepted:
        rejected = num_strategies * rows["scores"].rejected.total()
        lost = num_strategies * rows["judgements"].rejected.total()
        found.table.append(("scores", cells, actual, rejected, not_needed - rejected - lost))
        are_whole = all(rows[stage].is_whole for stage in ("problems", "scores", "selections"))
        if set(rows["selections"].accepted) != set(+rows["problems"].groups) and are_whole:
            found.notes.append("selections: some groups are still open; run the same command again")
        elif scored != actual - lost and are_whole:
            found.findings.append(
                f"scores: selections rest on {scored} cells, {actual - lost} are committed"
            )
    elif actual:
        found.notes.append(
            f"scores: {actual} cells are committed, no group is decided yet; run the same command "
            "again"
        )


def account_rationales(rows: dict[str, StageRows], found: Verification) -> None:
    """Checks that every problem has rationales or is rejected."""
    taught = rows["rationales"]
    _note_several("rationales", taught, found)
    _account("rationales", rows["problems"], taught, taught.by_problem, found)


def account_examples(rows: dict[str, StageRows], found: Verification) -> None:
    """Checks that every rationale has an example or is rejected."""
    made, taught = rows["examples"], rows["rationales"]
    _note_several("examples", made, found)
    keys = (
        (problem_id, 0 if problem_id in made.unnamed else attempt)
        for problem_id, attempt in taught.accepted.elements()
    )
    wanted = StageRows(accepted=Counter(keys), is_whole=taught.is_whole)
    _account("examples", wanted, made, made.accepted, found)


def _note_several(stage: str, rows: StageRows, found: Verification) -> None:
    num_rows, num_problems = rows.accepted.total(), rows.by_problem.total()
    if num_rows != num_problems:
        found.several[stage] = num_rows, num_problems


def _account(
    stage: str,
    before: StageRows,
    rows: StageRows,
    accepted: Counter[Any],
    found: Verification,
) -> None:
    """Checks by id that accepted + rejected = input, which is what the stage before accepted.

    `accepted` are a stage's accepted rows, counted by the ids of the stage before.
    """
    wanted, rejected = before.accepted, rows.rejected
    if not accepted and not rejected:
        if wanted:
            found.notes.append(f"{stage}: nothing is committed yet")
        return
    found.table.append((stage, wanted.total(), accepted.total(), rejected.total(), 0))
    if not rows.is_whole or not before.is_whole:
        return  # ids are missing in damaged files, which are findings by themselves
    seen = accepted + rejected
    missing, extra = wanted - seen, seen - wanted
    if extra:
        named = _shown(stage, min(extra))
        found.findings.append(f"{stage}: {len(extra)} ids came from nowhere, e.g. {named}")
    if missing:
        named = _shown(stage, min(missing))
        found.notes.append(
            f"{stage}: {len(missing)} ids are still open, e.g. {named}; run the same command again"
        )
