"""A problem's id -> its whole way through a run: each row made of it, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from orca2_gen.config.load import read_config
from orca2_gen.config.schema import Config
from orca2_gen.dataset.manifest import read_manifest
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
        raise ValueError(
            f"{run_dir} holds no row of {problem_id!r}; ids are task/split/number, as the column "
            "problem_id of the dataset has them"
        )
    return [*steps, *_dataset_step(run)]


def _steps(run: _Run, stage: str, groups: set[str]) -> Iterator[Step]:
    for receipt in run.ledger.committed(stage):
        if stage != "selections":
            yield from _row_steps(run, receipt)
        elif receipt.group in groups:
            yield _selection_step(run, receipt)


def _row_steps(run: _Run, receipt: Receipt) -> Iterator[Step]:
    for entry in receipt.files:
        is_rejected = entry == receipt.rejections
        record: type[Any] = Rejection if is_rejected else RECORDS[receipt.stage]
        table = read_table(run.ledger.run_dir, entry, record)
        mine = table.filter(pc.equal(table["problem_id"], run.problem_id))
        for row in from_table(mine, record):
            lines = tuple(_lines(run, receipt.stage, row))
            yield Step(stage=receipt.stage, place=_place(run, receipt, entry.path), lines=lines)


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


def _problem_lines(run: _Run, stage: str, problem: Problem) -> Iterator[str]:
    held_out = stage == "evaluation_problems"
    tasks = run.config.held_out if held_out else run.config.tasks
    for task in tasks:
        if task.name == problem.task:
            yield f"read from {task.path} ({task.format})"
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
                attempt = f"attempt {column_in(batch, 'attempt')[place]}"
                is_named = "attempt" in batch.schema.names
                yield Step(stage="dataset", place=where, lines=(attempt,) if is_named else ())
            first += batch.num_rows
