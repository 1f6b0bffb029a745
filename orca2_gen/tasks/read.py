"""Published task files -> Problems: one reader per format, one Problem or Rejection per row.

A format (formats/) reads files into rows and has a pure function from a row to a Statement;
`read_task` does what all formats share: identity, duplicates, checks, categories, samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType

from orca2_gen.records import Problem, Rejection
from orca2_gen.tasks.matches import Match
from orca2_gen.tasks.pools import Pool, PoolKey, fill_pools, pool_key, question_key, with_examples
from orca2_gen.tasks.rows import reject
from orca2_gen.tasks.sampling import Candidate, Sample, draw, rank_of
from orca2_gen.tasks.source import TaskSource, check_source
from orca2_gen.tasks.stated_rows import stated_problem, stated_rows
from orca2_gen.tasks.statements import BadRowError, Statement
from orca2_gen.tasks.taxonomy import NO_TAXONOMY, Taxonomy

READER_VERSION = 4
"""Raise it with every change that can alter a Problem: part of the stage keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRows:
    """The result of reading a task."""

    rows: Iterator[Problem | Rejection]
    sample: Sample | None
    """None if every row is read."""


NO_COPIES: Mapping[int, Match] = MappingProxyType({})


def _always(problem: Problem) -> bool:
    return True


def read_task(
    source: TaskSource,
    taxonomy: Taxonomy = NO_TAXONOMY,
    *,
    held_out: Sequence[TaskSource] = (),
    fits: Callable[[Problem], bool] = _always,
    copies: Mapping[int, Match] = NO_COPIES,
    stage: str = "problems",
) -> TaskRows:
    """One Problem or Rejection per row, in reading order, read on demand.

    A problem's id is `name/split/own`, where own is the row's id (see `statements.read_id`) or its
    place: the 0-based line or index, after the file's name if there are several. Memory holds one
    line, batch or document, and a hash and a place for every id. A sample costs a first pass over
    the files, in this call; only the rows drawn count as input. A fault of the whole task (nothing
    there, not gzip, unknown format) is a ValueError at once.

    Few-shot costs another such pass, which fills the pools of examples (pools.py) from the rows
    that become problems, sampled or not, and a pass over the files of `held_out`, which keeps a
    hash of every question, about 140 bytes each.

    Args:
        source: the task.
        taxonomy: categories that take precedence over those of its rows.
        held_out: tasks whose questions must not be examples; they are read if few_shot is set.
        fits: whether a problem can be asked at all; if not, it is not an example either.
        copies: place of a row in reading order -> the row that it is a copy of; it becomes a
            Rejection, no example, and takes nobody's place in a sample.
        stage: names the stage of rejections.
    """
    check_source(source)
    sample = None
    if source.is_sampled:
        sample = draw(
            _candidates(source, taxonomy, copies),
            rows_per_task=source.rows_per_task,
            rows_per_category=source.rows_per_category,
        )
    stated = _problems(source, taxonomy, sample, copies, stage)
    if source.few_shot is None:
        return TaskRows(rows=(row for _, row in stated), sample=sample)
    pools = fill_pools(
        (
            (pool_key(task, row), row)
            for task, row in _problems(source, taxonomy, None, copies, stage)
            if isinstance(row, Problem)
        ),
        seed=source.sample_seed,
        held_out={key for other in held_out for key in _question_keys(other)},
        fits=fits,
    )
    return TaskRows(rows=_few_shot(stated, pools, source, stage), sample=sample)


def _question_keys(source: TaskSource) -> Iterator[int]:
    check_source(source)
    for row in stated_rows(source, NO_TAXONOMY):
        if isinstance(row.statement, Statement):
            yield question_key(row.statement.question)


def _few_shot(
    stated: Iterator[tuple[str, Problem | Rejection]],
    pools: Mapping[PoolKey, Pool],
    source: TaskSource,
    stage: str,
) -> Iterator[Problem | Rejection]:
    """Every row; a problem gets examples, or is rejected for lack of them."""
    assert source.few_shot is not None
    for task, row in stated:
        if isinstance(row, Rejection):
            yield row
            continue
        pool = pools.get(pool_key(task, row), Pool())
        yield with_examples(
            row, pool, few_shot=source.few_shot, seed=source.sample_seed, stage=stage
        )


def _problems(
    source: TaskSource,
    taxonomy: Taxonomy,
    sample: Sample | None,
    copies: Mapping[int, Match],
    stage: str,
) -> Iterator[tuple[str, Problem | Rejection]]:
    """Every row of the task or its sample, with the name of its own task in a mixture."""
    place_of_id: dict[bytes, str] = {}
    wanted = None if sample is None else sample.ordinals.__contains__
    for row in stated_rows(source, taxonomy, wanted):
        statement, place = row.statement, row.found.place
        if isinstance(statement, BadRowError):
            yield "", reject(place, statement, stage)
            continue
        first = place_of_id.setdefault(_hash_id(row.own), place)
        if first != place:
            detail = f"the id {row.own} is used at {first} already; give each row its own"
            yield "", reject(place, BadRowError("duplicate_id", detail), stage)
            continue
        if row.ordinal in copies:
            yield row.task, copies[row.ordinal].rejection(stage, place)
            continue
        yield row.task, stated_problem(source, row, statement)


def _candidates(
    source: TaskSource, taxonomy: Taxonomy, copies: Mapping[int, Match]
) -> Iterator[Candidate]:
    for row in stated_rows(source, taxonomy):
        if not row.found.is_about_file:
            yield Candidate(
                ordinal=row.ordinal,
                rank=rank_of(source.sample_seed, f"{source.prefix}/{row.own}"),
                task=row.task,
                category=row.branch.category,
                is_bad=isinstance(row.statement, BadRowError),
                is_copy=row.ordinal in copies,
            )


def _hash_id(own: str) -> bytes:
    return blake2b(own.encode("ascii"), digest_size=12).digest()
