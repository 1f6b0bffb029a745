"""What a unit of examples was made from -> the column `provenance` of its rows.

Where a row comes from stands beside it and never in its text. Everything here is derived from
committed files, a unit at a time, so that `verify` derives it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orca2_gen.engine import Request
from orca2_gen.records import Problem, Rationale, Selection
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_records, read_table
from orca2_gen.run_directory.record_tables import arrow_schema
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.units import origin_of
from orca2_gen.strategies import CAUTIOUS, EMPTY

COLUMN = "provenance"


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyScore:
    """What a row's group scored under a strategy."""

    strategy: str
    num_scored: int
    """Answers that were spent on it: a race stops asking a strategy that fell."""
    mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a row comes from: the fields of the column."""

    group: str
    """The selection group of its problem: a task or a category."""
    policy: str
    """The policy that chose the row's strategy."""
    reason: str
    """Why it was chosen, as in the Selection."""
    scores: tuple[StrategyScore, ...]
    """All strategies of the group; empty if the policy asked for no scores."""
    margin: float
    """The mean of the row's strategy less the best mean of another that could be chosen, so not of
    the cautious message; 0 if there is none. Below 0 where a cheaper strategy was taken within the
    indifference."""
    instruction_sha256: str
    """SHA-256 of the system message that the teacher saw, in UTF-8."""
    teacher: str
    """The teacher's name when the run began, as its card has it, or `scripted`."""
    teacher_digest: str
    """Digest of the teacher's weights; empty if it is scripted."""
    temperature: float
    """Of this attempt: the first is greedy."""
    top_p: float
    seed: int
    """The sampling seed of the attempt's first call; 0 if it was greedy."""
    attempt: int
    engine_version: str
    """What generated the answer, e.g. `vllm 0.32.0`; empty if an older version kept no word."""
    source_file: str
    """As in the Problem; empty if an older version read it."""
    source_line: int
    rationale_unit: str
    """The unit of the stage `rationales`, as the run's ledger names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherFacts:
    """The teacher of a run, and how it was sampled."""

    name: str
    digest: str
    temperature: float
    """Of every attempt after the first."""
    top_p: float
    run_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitOrigin:
    """The files that a unit of examples was made from."""

    unit: str
    group: str
    problems: FileEntry
    rationales: FileEntry
    selection: FileEntry
    engine: str = ""
    """What the file of rationales says made them; known where a dataset is planned."""

    @property
    def contents(self) -> UnitOrigin:
        """The same without the files' names, which tell drivers and attempts.

        Nor does it hold the digest of the rationales: whether an engine made them or they were
        regraded stands in their file, and no row depends on it. Their rows are those of the
        examples, under the key of the plan, but for the engine.
        """
        return dataclasses.replace(
            self,
            problems=dataclasses.replace(self.problems, path=""),
            rationales=FileEntry(path="", rows=self.rationales.rows, bytes=0, sha256=""),
            selection=dataclasses.replace(self.selection, path=""),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitProvenance:
    """The provenance of every rationale of a unit."""

    places: dict[tuple[str, int], int]
    """Problem and attempt -> the row."""
    attempts: dict[str, int]
    """Problem -> its first attempt."""
    column: pa.StructArray


_SHORT = ("num_scored", "seed", "attempt")
"""Integers of 32 bits: of 64, the column would take over 15 % of a shard of rows of 300 tokens."""


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type without promises about nulls, which `datasets` does not know."""
    if pa.types.is_struct(type_):
        types = {field.name: _plain(field.type) for field in type_}
        return pa.struct([(n, pa.int32() if n in _SHORT else t) for n, t in types.items()])
    return pa.list_(_plain(type_.value_type)) if pa.types.is_list(type_) else type_


PROVENANCE: pa.StructType = _plain(pa.struct(list(arrow_schema(Provenance))))
"""The type of the column."""


def unit_provenance(run_dir: Path, origin: UnitOrigin, teacher: TeacherFacts) -> UnitProvenance:
    """The provenance of a unit's rationales.

    Raises:
        DamagedFile: a file is damaged, or a rationale is about no problem of the unit.
    """
    rationales = read_table(run_dir, origin.rationales, Rationale)
    about_itself = origin_of(rationales.schema)
    [selection] = read_records(run_dir, origin.selection, Selection)
    ids = rationales["problem_id"].to_pylist()
    strategies = rationales["strategy"].to_pylist()
    attempts = rationales["attempt"].to_pylist()
    sources = _sources(read_table(run_dir, origin.problems, Problem))
    if lost := set(ids) - sources.keys():
        raise DamagedFile(
            f"{run_dir / origin.rationales.path} holds a rationale of {min(lost)}, which is no "
            f"problem of {run_dir / origin.problems.path}"
        )
    is_sampled = [attempt > 0 and teacher.temperature > 0 for attempt in attempts]
    constant = {
        "group": origin.group,
        "policy": selection.policy,
        "reason": selection.reason,
        "scores": [dataclasses.asdict(score) for score in scores_of(selection)],
        "margin": margin_of(scores_of(selection), selection.strategy),
        "teacher": teacher.name,
        "teacher_digest": teacher.digest,
        "engine_version": about_itself.engine if about_itself is not None else "",
        "rationale_unit": origin.unit,
    }
    columns: dict[str, Any] = {
        "instruction_sha256": _hashes(rationales["system"].combine_chunks()),
        "temperature": [teacher.temperature if attempt else 0.0 for attempt in attempts],
        "top_p": [teacher.top_p if attempt else 1.0 for attempt in attempts],
        "seed": [
            seed_of(problem_id, strategy, attempt, teacher.run_seed) if is_random else 0
            for problem_id, strategy, attempt, is_random in zip(
                ids, strategies, attempts, is_sampled, strict=True
            )
        ],
        "attempt": attempts,
        "source_file": [sources[problem_id][0] for problem_id in ids],
        "source_line": [sources[problem_id][1] for problem_id in ids],
    }
    places = pa.array(np.zeros(len(ids), np.int64))
    arrays = [
        pa.array([constant[field.name]], field.type).take(places)
        if field.name in constant
        else _array(columns[field.name], field.type)
        for field in PROVENANCE
    ]
    first: dict[str, int] = {}
    for problem_id, attempt in zip(ids, attempts, strict=True):
        first.setdefault(problem_id, attempt)
    return UnitProvenance(
        places={key: row for row, key in enumerate(zip(ids, attempts, strict=True))},
        attempts=first,
        column=pa.StructArray.from_arrays(arrays, fields=list(PROVENANCE)),
    )


def _array(values: Any, type_: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type_)


def _sources(problems: pa.Table) -> dict[str, tuple[str, int]]:
    """Problem -> file and line; older files have neither."""
    ids = problems["problem_id"].to_pylist()
    if "source_file" not in problems.column_names:
        return dict.fromkeys(ids, ("", 0))
    places = zip(
        problems["source_file"].to_pylist(), problems["source_line"].to_pylist(), strict=True
    )
    return dict(zip(ids, places, strict=True))


def _hashes(texts: pa.Array) -> pa.Array:
    """The SHA-256 of each text: most rows of a unit share one."""
    encoded = texts.dictionary_encode()
    found = [hashlib.sha256(text.encode()).hexdigest() for text in encoded.dictionary.to_pylist()]
    return pa.array(found, pa.string()).take(encoded.indices)


def scores_of(selection: Selection) -> tuple[StrategyScore, ...]:
    """The scores that a Selection rests on; none if its policy needs none."""
    if selection.method == "none":
        return ()
    return tuple(
        StrategyScore(strategy=each.strategy, num_scored=each.num_scored, mean=each.mean)
        for each in selection.summaries
    )


def margin_of(scores: Sequence[StrategyScore], strategy: str) -> float:
    """The mean of a strategy less the best mean of another that could be chosen; 0 if none is."""
    able = [s for s in scores if s.num_scored and s.strategy not in (CAUTIOUS, EMPTY)]
    means = {score.strategy: score.mean for score in able}
    others = [mean for name, mean in means.items() if name != strategy]
    return means[strategy] - max(others) if others and strategy in means else 0.0


def seed_of(problem_id: str, strategy: str, attempt: int, run_seed: int) -> int:
    """The sampling seed of the first call of a teacher's attempt."""
    return Request(
        problem_id=problem_id,
        role="teacher",
        strategy=strategy,
        call=0,
        attempt=attempt,
        prompt_token_ids=(),
        max_tokens=1,
        run_seed=run_seed,
    ).seed


def examples_provenance(
    run_dir: Path, origin: UnitOrigin, teacher: TeacherFacts, examples: pa.Table
) -> pa.StructArray:
    """The provenance of a unit's examples.

    Raises:
        DamagedFile: a file is damaged, or an example has no rationale in the unit.
    """
    made_from = unit_provenance(run_dir, origin, teacher)
    ids = examples["problem_id"].to_pylist()
    attempts = [0] * len(ids)
    if "attempt" in examples.column_names:
        attempts = examples["attempt"].to_pylist()
    column, unknown = rows_provenance(ids, attempts, made_from)
    if unknown:
        raise DamagedFile(
            f"{run_dir / origin.rationales.path} holds no rationale of {unknown}, of which an "
            "example was made; run `orca2 verify`"
        )
    return column


def rows_provenance(
    problem_ids: Sequence[str], attempts: Sequence[int], made_from: UnitProvenance
) -> tuple[pa.StructArray, str]:
    """The provenance of rows, in order, and the name of a row that the unit has no rationale of.

    That row and all others that have none are left out; the name is empty if there are none. Older
    rows have no attempt, and stand for the one rationale of their problem.
    """
    places, unknown = [], ""
    for problem_id, attempt in zip(problem_ids, attempts, strict=True):
        first = problem_id, made_from.attempts.get(problem_id, 0)
        place = made_from.places.get((problem_id, attempt) if attempt else first)
        if place is None:
            unknown = unknown or row_name(problem_id, attempt)
        else:
            places.append(place)
    return made_from.column.take(pa.array(places, pa.int64())), unknown
