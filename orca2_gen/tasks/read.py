"""Published task files -> Problems: one reader per format, one Problem or Rejection per row.

A format (formats/) reads files into rows and has a pure function from a row to a Statement;
`read_task` does what all formats share: identity, duplicates, checks, categories, samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from orca2_gen.records import AnswerType, Problem, Rejection
from orca2_gen.tasks.columns import Columns, check_columns, check_present, map_columns
from orca2_gen.tasks.formats import FORMATS, PLAIN, read_files
from orca2_gen.tasks.pools import Pool, PoolKey, fill_pools, pool_key, question_key, with_examples
from orca2_gen.tasks.rows import SourceRow, reject
from orca2_gen.tasks.sampling import Candidate, Sample, draw, rank_of
from orca2_gen.tasks.statements import BadRowError, Statement, check_statement
from orca2_gen.tasks.taxonomy import NO_TAXONOMY, NOWHERE, Branch, Taxonomy

READER_VERSION = 4
"""Raise it with every change that can alter a Problem: part of the stage keys."""

# A task's name becomes part of problem ids and of file names.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSource:
    """A task, and the files and rows that it is made of."""

    name: str
    format: str
    path: Path
    split: str
    answer_type: AnswerType | None = None
    """None leaves it to the format."""
    columns: Columns = field(default_factory=dict)
    """Field of a plain row -> its column or columns in these files."""
    rows_per_task: int | None = None
    """Rows in a sample; in a mixture, of every task in it."""
    rows_per_category: int | None = None
    """Rows in a sample of every category."""
    sample_seed: int = 0
    few_shot: tuple[int, int] | None = None
    """The least and the most examples before each question; None is zero-shot."""

    @property
    def prefix(self) -> str:
        return f"{self.name}/{self.split}"

    @property
    def is_sampled(self) -> bool:
        return self.rows_per_task is not None or self.rows_per_category is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRows:
    """The result of reading a task."""

    rows: Iterator[Problem | Rejection]
    sample: Sample | None
    """None if every row is read."""


def _always(problem: Problem) -> bool:
    return True


def read_task(
    source: TaskSource,
    taxonomy: Taxonomy = NO_TAXONOMY,
    *,
    held_out: Sequence[TaskSource] = (),
    fits: Callable[[Problem], bool] = _always,
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
        stage: names the stage of rejections.
    """
    check_source(source)
    sample = None
    if source.is_sampled:
        sample = draw(
            _candidates(source, taxonomy),
            rows_per_task=source.rows_per_task,
            rows_per_category=source.rows_per_category,
        )
    stated = _problems(source, taxonomy, sample, stage)
    if source.few_shot is None:
        return TaskRows(rows=(row for _, row in stated), sample=sample)
    pools = fill_pools(
        (
            (pool_key(task, row), row)
            for task, row in _problems(source, taxonomy, None, stage)
            if isinstance(row, Problem)
        ),
        seed=source.sample_seed,
        held_out={key for other in held_out for key in _question_keys(other)},
        fits=fits,
    )
    return TaskRows(rows=_few_shot(stated, pools, source, stage), sample=sample)


def _question_keys(source: TaskSource) -> Iterator[int]:
    check_source(source)
    for row in _stated_rows(source, NO_TAXONOMY):
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


def check_source(source: TaskSource) -> None:
    """Checks that a task can be read as its source says.

    Raises:
        ValueError: one line that names the task and the key.
    """
    check_columns(source.columns)
    if source.format not in FORMATS:
        raise ValueError(
            f"task {source.name!r}: unknown format {source.format!r}; expected one of "
            f"{', '.join(FORMATS)}"
        )
    for word, value in (("name", source.name), ("split", source.split)):
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"task {word} {value!r}: expected at most 100 letters, digits, '_', '-' and '.', "
                "the first not '-' or '.'; rename it"
            )
    known = FORMATS[source.format].answer_types
    if source.answer_type is not None and source.answer_type not in known:
        raise ValueError(
            f"task {source.name!r}: format {source.format!r} with answer_type "
            f"{source.answer_type!r}: its rows cannot have that type; set answer_type to "
            f"{' or '.join(known)}, or leave it out"
        )
    if source.columns and source.format not in PLAIN:
        raise ValueError(
            f"task {source.name!r}: columns are for the formats {', '.join(PLAIN)}; "
            f"{source.format!r} knows its own, so leave them out"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _StatedRow:
    """A row of a task's files and what it states."""

    found: SourceRow
    ordinal: int
    """Its place among the rows that are problems or bad; -1 for a row about a whole file."""
    statement: Statement | BadRowError
    own: str
    """Its id inside the task and split."""
    task: str
    """Its own task in a mixture; empty elsewhere."""
    branch: Branch


def _stated_rows(
    source: TaskSource, taxonomy: Taxonomy, sample: Sample | None = None
) -> Iterator[_StatedRow]:
    """Every row with its identity; with a sample, only its rows and those about a whole file."""
    ordinal = -1
    for found in read_files(source.format, source.path, source.columns):
        ordinal += not found.is_about_file
        if sample is not None and not found.is_about_file and ordinal not in sample.ordinals:
            continue
        statement = _statement(found, source)
        own, task, branch = found.key, "", NOWHERE
        if isinstance(statement, Statement):
            own = found.key if statement.source_id is None else statement.source_id
            task, branch = statement.source_task, _branch(statement, source, taxonomy)
        yield _StatedRow(
            found=found,
            ordinal=-1 if found.is_about_file else ordinal,
            statement=statement,
            own=own,
            task=task,
            branch=branch,
        )


def _statement(found: SourceRow, source: TaskSource) -> Statement | BadRowError:
    """The row's statement, or the reason why it has none."""
    row = found.row
    if isinstance(row, BadRowError):
        return row
    try:
        if source.columns:
            check_present(row, source.columns)
            row = map_columns(row, source.columns)
        return check_statement(FORMATS[source.format].state(row, source.answer_type))
    except BadRowError as error:
        return error


def _problems(
    source: TaskSource, taxonomy: Taxonomy, sample: Sample | None, stage: str
) -> Iterator[tuple[str, Problem | Rejection]]:
    """Every row of the task or its sample, with the name of its own task in a mixture."""
    place_of_id: dict[bytes, str] = {}
    for row in _stated_rows(source, taxonomy, sample):
        statement, place = row.statement, row.found.place
        if isinstance(statement, BadRowError):
            yield "", reject(place, statement, stage)
            continue
        first = place_of_id.setdefault(_hash_id(row.own), place)
        if first != place:
            detail = f"the id {row.own} is used at {first} already; give each row its own"
            yield "", reject(place, BadRowError("duplicate_id", detail), stage)
            continue
        problem = Problem(
            problem_id=f"{source.prefix}/{row.own}",
            task=source.name,
            question=statement.question,
            target=statement.target,
            answer_type=statement.answer_type,
            other_targets=statement.other_targets,
            choices=statement.choices,
            category=row.branch.category,
            sub_category=row.branch.sub_category,
        )
        yield row.task, problem


def _candidates(source: TaskSource, taxonomy: Taxonomy) -> Iterator[Candidate]:
    for row in _stated_rows(source, taxonomy):
        if not row.found.is_about_file:
            yield Candidate(
                ordinal=row.ordinal,
                rank=rank_of(source.sample_seed, f"{source.prefix}/{row.own}"),
                task=row.task,
                category=row.branch.category,
                is_bad=isinstance(row.statement, BadRowError),
            )


def _branch(statement: Statement, source: TaskSource, taxonomy: Taxonomy) -> Branch:
    for name in (statement.source_task, source.name):
        if name in taxonomy:
            branch = taxonomy[name]
            sub_category = branch.sub_category or statement.sub_category
            return Branch(category=branch.category, sub_category=sub_category)
    return Branch(category=statement.category, sub_category=statement.sub_category)


def _hash_id(own: str) -> bytes:
    return blake2b(own.encode("ascii"), digest_size=12).digest()
