"""A problem's id -> its whole way through a run: each row made of it, and where it lies."""

from __future__ import annotations

import difflib
import heapq
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.config.load import read_config
from orca2_gen.config.schema import Config
from orca2_gen.dataset.manifest import read_manifest
from orca2_gen.dataset.origins import COLUMN, margin_of, scores_of
from orca2_gen.dataset.shards import column_in, read_shard
from orca2_gen.prompts import user_text
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.recorded import read_recorded
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records, read_table
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.record_tables import from_table
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import Strategies, load_strategies

_MOST_COMPARED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A row, or rows of one file, on a problem's way."""

    stage: str
    place: str
    """The file of the rows, and the line of the ledger that lists it."""
    lines: tuple[str, ...]
    """What a person wants to know of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    ledger: Ledger
    config: Config
    strategies: Strategies
    problem_id: str


def trace(run_dir: Path, problem_id: str) -> list[Step]:
    """The steps of a problem, in the order of the stages; texts are whole.

    Raises:
        ValueError: it is not a run directory, or no row in it has this id.
        DamagedFile: a file on the way is damaged.
    """
    recorded = read_recorded(run_dir)
    config = read_config(run_dir / "config.json")
    strategies = recorded.strategies or load_strategies(config.strategies)
    run = _Run(
        ledger=read_ledger(run_dir), config=config, strategies=strategies, problem_id=problem_id
    )
    groups = _groups(run)
    steps = [step for stage in RECORDS for step in _steps(run, stage, groups)]
    if not steps:
        near = " or ".join(map(repr, _nearest(run)))
        raise ValueError(
            f"{run_dir} holds no row of {problem_id!r}; ids are task/split/number, as the column "
            "problem_id of the dataset has them, or the file:line of a row that was rejected"
            + (f"; did you mean {near}?" if near else "")
        )
    return [*steps, *_dataset_step(run)]


def _steps(run: _Run, stage: str, groups: set[str]) -> Iterator[Step]:
    for receipt in run.ledger.committed(stage):
        if stage != "selections":
            yield from _row_steps(run, receipt)
        elif receipt.group in groups:
            yield _selection_step(run, receipt)


def _nearest(run: _Run) -> list[str]:
    """The ids, of problems read and rows rejected, that are most like one that no row has."""
    wanted, found = run.problem_id, _Likeness(run.problem_id)
    for stage in ("problems", "evaluation_problems"):
        for receipt in run.ledger.committed(stage):
            for entry in receipt.files:
                found.add(read_table(run.ledger.run_dir, entry)["problem_id"].to_pylist())
    return difflib.get_close_matches(wanted, found.ids)


@dataclass(slots=True)
class _Likeness:
    """The ids that begin most like one that is looked for: comparing all would take minutes."""

    wanted: str
    ids: list[str] = field(default_factory=list)

    def add(self, ids: Sequence[str]) -> None:
        self.ids = heapq.nsmallest(_MOST_COMPARED, [*self.ids, *ids], key=self._distance)

    def _distance(self, other: str) -> tuple[int, int]:
        pairs = zip(self.wanted, other, strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        return -shared, abs(len(other) - len(self.wanted))


def _row_steps(run: _Run, receipt: Receipt) -> Iterator[Step]:
    """The rows of a unit that are about the problem; the teacher's attempts in their order."""
    found = sorted(_found_rows(run, receipt), key=lambda each: each[0])
    yield from (step for _, step in found)


def _found_rows(run: _Run, receipt: Receipt) -> Iterator[tuple[int, Step]]:
    """Each row with its attempt where it is one of the teacher's; rejections come last."""
    for entry in receipt.files:
        is_rejected = entry == receipt.rejections
        record: type[Any] = Rejection if is_rejected else RECORDS[receipt.stage]
        table = read_table(run.ledger.run_dir, entry, record)
        mine = table.filter(pc.equal(table["problem_id"], run.problem_id))
        for row in from_table(mine, record):
            lines = tuple(_lines(run, receipt.stage, row))
            place = _place(run, receipt, entry.path)
            attempt = row.attempt if isinstance(row, Rationale) else 0
            order = sys.maxsize if is_rejected else attempt
            yield order, Step(stage=receipt.stage, place=place, lines=lines)


def _selection_step(run: _Run, receipt: Receipt) -> Step:
    [selection] = read_records(run.ledger.run_dir, receipt.accepted, Selection)
    place = _place(run, receipt, receipt.accepted.path)
    return Step(stage="selections", place=place, lines=tuple(_selection_lines(selection)))


def _groups(run: _Run) -> set[str]:
    """The selection group of the problem; none if it was rejected or is held out."""
    return {
        receipt.group
        for receipt in run.ledger.committed("problems")
        if _holds(run, receipt.accepted)
    }


def _holds(run: _Run, entry: FileEntry) -> bool:
    ids = read_table(run.ledger.run_dir, entry, Problem)["problem_id"]
    return bool(pc.any(pc.equal(ids, run.problem_id)).as_py())


def _place(run: _Run, receipt: Receipt, path: str) -> str:
    # A unit is a line of its own, and the ledger keeps them in their order.
    number = list(run.ledger.units).index((receipt.stage, receipt.unit)) + 1
    return f"{path}, ledger.jsonl:{number}, unit {receipt.unit}, attempt {receipt.attempt}"


def _lines(run: _Run, stage: str, row: Any) -> Iterator[str]:
    if isinstance(row, Rejection):
        yield f"rejected: {row.reason}: {row.detail}"
        if stage == "examples":
            yield f"attempt {row.attempt}"
    elif isinstance(row, Problem):
        yield from _problem_lines(run, stage, row)
    elif isinstance(row, StudentScore):
        yield from _score_lines(row)
    elif isinstance(row, Rationale):
        verdict = f"refused as {row.fault}" if row.fault else "accepted"
        yield f"{verdict} under {row.strategy} at attempt {row.attempt}, answer {row.answer!r}"
        yield f"system: {row.system}"
        yield from (f"further call: {text}" for text in row.further_calls)
        if row.reasoning:
            yield f"thought: {row.reasoning}"
        yield f"text: {row.text}"
    else:
        assert isinstance(row, Example)
        trained = len(row.input_ids) - row.num_prompt_tokens
        yield f"attempt {row.attempt}: {len(row.input_ids)} tokens, {trained} of them trained"
        for message in row.messages:
            if message.reasoning:
                yield f"trains on thought: {message.reasoning}"
            yield f"trains on {message.role}: {message.content}"


def _problem_lines(run: _Run, stage: str, problem: Problem) -> Iterator[str]:
    held_out = stage == "evaluation_problems"
    tasks = run.config.held_out if held_out else run.config.tasks
    for task in tasks:
        if task.name == problem.task:
            row = f", {problem.source_file}:{problem.source_line}" if problem.source_file else ""
            yield f"read from {task.path} ({task.format}){row}"
    gold = " or ".join(map(repr, (problem.target, *problem.other_targets)))
    yield f"{problem.answer_type}, gold answer {gold}"
    yield f"user: {user_text(problem, run.strategies)}"
    if not held_out:
        for name in run.strategies.names:
            yield f"system of {name}: {run.strategies.system_message(name, problem)}"


def _score_lines(score: StudentScore) -> Iterator[str]:
    forced = " by a forced ending" if score.is_forced else ""
    yield (
        f"{score.strategy}: {score.outcome}{forced}, answer {score.answer!r}, "
        f"{score.num_answer_tokens} tokens, attempt {score.attempt}"
    )
    if score.reasoning:
        yield f"thought: {score.reasoning}"
    yield f"text: {score.text}"
    yield from (f"ending: {each.text}" for each in score.ending)
    yield from (f"judge: {each.text}" for each in score.judgement)


def _selection_lines(selection: Selection) -> Iterator[str]:
    fragile = ", fragile" if selection.fragile else ""
    yield (
        f"{selection.group}: {selection.strategy} ({selection.reason}{fragile}), "
        f"{selection.num_scored_problems} of {selection.num_problems} problems scored"
    )
    for summary in selection.summaries:
        yield (
            f"{summary.strategy}: mean {summary.mean:.3f} ({summary.low:.3f} to "
            f"{summary.high:.3f}) of {summary.num_scored}, {summary.mean_completion_tokens:.0f} "
            "tokens"
        )
    if scores := scores_of(selection):
        margin = margin_of(scores, selection.strategy)
        yield f"margin over the best other strategy: {margin:+.3f}"


def _dataset_step(run: _Run) -> Iterator[Step]:
    """The rows of the dataset, if there are any."""
    root = run.ledger.run_dir / "dataset"
    if not (root / "manifest.json").is_file():
        return
    for entry in read_manifest(root).files:
        first = 0
        for batch in read_shard(root, entry):
            mine = pc.equal(batch.column("problem_id"), run.problem_id)
            for place in pc.indices_nonzero(mine).to_pylist():
                where = f"dataset/{entry.path}, row {first + place}"
                yield Step(stage="dataset", place=where, lines=tuple(_row_lines(batch, place)))
            first += batch.num_rows


def _row_lines(batch: pa.RecordBatch, place: int) -> Iterator[str]:
    """What a row of the dataset says of itself; those of older versions say less."""
    if COLUMN not in batch.schema.names:
        if "attempt" in batch.schema.names:
            yield f"attempt {column_in(batch, 'attempt')[place]}"
    else:
        said: Mapping[str, Any] = batch.column(COLUMN)[place].as_py()
        yield from (f"{name}: {_shown(value)}" for name, value in said.items())


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{s['strategy']} {s['mean']:.3f} of {s['num_scored']}" for s in value)
    return str(value)
