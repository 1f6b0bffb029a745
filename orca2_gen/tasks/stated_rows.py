"""Rows of a task's files -> what they state, each with its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orca2_gen.records import Problem
from orca2_gen.tasks.columns import check_present, map_columns
from orca2_gen.tasks.formats import FORMATS, read_files
from orca2_gen.tasks.rows import SourceRow
from orca2_gen.tasks.source import TaskSource
from orca2_gen.tasks.statements import BadRowError, Statement, check_statement
from orca2_gen.tasks.taxonomy import NO_TAXONOMY, NOWHERE, Branch, Taxonomy


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedRow:
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


def stated_rows(
    source: TaskSource,
    taxonomy: Taxonomy = NO_TAXONOMY,
    wanted: Callable[[int], bool] | None = None,
) -> Iterator[StatedRow]:
    """Every row with its identity.

    With `wanted`, only rows whose place among the rows it wants, and those about a whole file.
    """
    ordinal = -1
    for found in read_files(source.format, source.path, source.columns):
        ordinal += not found.is_about_file
        if wanted is not None and not found.is_about_file and not wanted(ordinal):
            continue
        statement = _statement(found, source)
        own, task, branch = found.key, "", NOWHERE
        if isinstance(statement, Statement):
            own = found.key if statement.source_id is None else statement.source_id
            task, branch = statement.source_task, _branch(statement, source, taxonomy)
        yield StatedRow(
            found=found,
            ordinal=-1 if found.is_about_file else ordinal,
            statement=statement,
            own=own,
            task=task,
            branch=branch,
        )


def stated_problem(source: TaskSource, row: StatedRow, statement: Statement) -> Problem:
    """The Problem of a row with this statement."""
    return Problem(
        problem_id=f"{source.prefix}/{row.own}",
        task=source.name,
        question=statement.question,
        target=statement.target,
        answer_type=statement.answer_type,
        other_targets=statement.other_targets,
        choices=statement.choices,
        category=row.branch.category,
        sub_category=row.branch.sub_category,
        source_file=row.found.file,
        source_line=row.found.line,
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


def _branch(statement: Statement, source: TaskSource, taxonomy: Taxonomy) -> Branch:
    for name in (statement.source_task, source.name):
        if name in taxonomy:
            branch = taxonomy[name]
            sub_category = branch.sub_category or statement.sub_category
            return Branch(category=branch.category, sub_category=sub_category)
    return Branch(category=statement.category, sub_category=statement.sub_category)
