"""Committed units against their own rows: name, group, key and counts follow from what they hold.

A ledger line can be whole and wrong: whoever changes it can compute its checksum again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.provenance.unit_rows import lost_in
from orca2_gen.records import Problem, Rejection, Selection, engine_completions
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, read_table
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.record_tables import column_with_nulls
from orca2_gen.run_directory.units import (
    EVALUATIONS,
    JUDGEMENTS,
    REFUSED,
    Receipt,
    held_out_unit,
    origin_of,
)
from orca2_gen.selection.blocks import Group
from orca2_gen.strategies import CAUTIOUS, EMPTY
from orca2_gen.tasks.counts import stated_reasons

_NUMBER = re.compile(r"[0-9]{6,}")


def unit_table(ledger: Ledger, entry: FileEntry, record: type[Any]) -> pa.Table:
    """The rows of a committed file, none of them with a null in it.

    Raises:
        DamagedFile: the file cannot be read, or holds a null.
    """
    table = read_table(ledger.run_dir, entry, record)
    if column_with_nulls(table):
        raise DamagedFile(
            f"{ledger.run_dir / entry.path} holds a null, which no row of {record.__name__} has"
        )
    return table


def origin_faults(path: Path, table: pa.Table, receipt: Receipt) -> Iterator[str]:
    """A line for each difference of what a file says of itself from what the ledger says of it."""
    try:
        origin = origin_of(table.schema)
    except ValueError as error:
        yield f"{path}: {error}"
        return
    if origin is None:
        return  # an older version wrote none
    for name in ("stage", "stage_key", "unit", "group", "counts"):
        own, listed = getattr(origin, name), getattr(receipt, name)
        if own != listed:
            yield f"{path} says that its {name} is {own!r}, the ledger {listed!r}"
    is_rejected, is_refused = path.parent.name == "rejections", path.name.endswith(REFUSED)
    kind = "rejected" if is_rejected else "refused" if is_refused else "accepted"
    if origin.rows != kind:
        yield f"{path} says that its rows are {origin.rows}, by its place they are {kind}"


@dataclass(kw_only=True, slots=True)
class Places:
    """Where problems were read into, for the units that later stages make of them."""

    groups: dict[str, str] = field(default_factory=dict)
    """Id of a problem -> its selection group."""
    held_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Unit of held-out problems -> their ids."""
    evaluated: dict[tuple[str, str], str] = field(default_factory=dict)
    """Model's name and start of its key -> the key."""
    messages: frozenset[str] = frozenset((CAUTIOUS, EMPTY))
    """Names of the messages that an evaluation may ask under."""


def unit_faults(
    ledger: Ledger,
    receipt: Receipt,
    rows: Sequence[Any],
    lost: Sequence[Rejection],
    places: Places,
) -> Iterator[str]:
    """A line for each way in which a unit's name, group or counts differ from its rows.

    The stages come in their order: `places` takes in the problems for the later ones.
    """
    at = f"{receipt.stage}/{receipt.unit}"
    if receipt.stage.endswith("problems"):
        faults = _problem_faults(receipt, rows, lost, places)
    elif receipt.stage in EVALUATIONS:
        faults = _evaluation_faults(ledger, receipt, rows, lost, places)
    else:
        faults = _made_faults(ledger, receipt, rows, places)
    for fault in faults:
        yield f"{at}: {fault}"
    if receipt.stage == "rationales":
        problems = len({row.problem_id for row in (*rows, *lost)})
        if receipt.taken_in != problems:
            yield f"{at}: the ledger counts {receipt.taken_in} problems, its rows have {problems}"
    for name, total in _tokens(receipt, rows).items():
        if receipt.counts.get(name, total) != total:
            yield f"{at}: the ledger counts {receipt.counts[name]} {name}, its rows have {total}"


def _problem_faults(
    receipt: Receipt, rows: Sequence[Problem], lost: Sequence[Rejection], places: Places
) -> Iterator[str]:
    stated, counted = stated_reasons(receipt), Counter(row.reason for row in lost)
    if stated and stated != counted:  # an older version states none
        yield f"the ledger counts rejections for {stated}, its rows have {dict(counted)}"
    task, _, number = receipt.unit.rpartition("-")
    others = {row.task for row in rows} - {task}
    if others or not _NUMBER.fullmatch(number):
        yield f"its name is not of its task, {', '.join(sorted(others)) or task}"
    if receipt.stage == "problems":
        places.groups.update((row.problem_id, receipt.group) for row in rows)
    else:
        places.held_out[receipt.unit] = tuple(row.problem_id for row in rows)
    if receipt.group != task and (not rows or receipt.stage != "problems"):
        yield f"its group is {receipt.group!r}, expected {task!r}"


def _made_faults(
    ledger: Ledger, receipt: Receipt, rows: Sequence[Any], places: Places
) -> Iterator[str]:
    """The faults of a unit made of training problems, or of their scores."""
    stem = Group(name=receipt.group, num_problems=0, num_groups=0).stem
    is_named = {
        "selections": receipt.unit == stem,
        "scores": receipt.unit.rpartition("-")[0] == stem,
        "judgements": receipt.unit.rpartition("-")[0] == stem,
    }
    before = ledger.units.get(("problems", receipt.unit))
    if not is_named.get(receipt.stage, before is not None and before.group == receipt.group):
        yield f"its name is not one of its group, {receipt.group!r}"
    groups = {
        # An unknown id is reported where ids are counted.
        row.group
        if isinstance(row, Selection)
        else places.groups.get(row.problem_id, receipt.group)
        for row in rows
    }
    if others := groups - {receipt.group}:
        yield f"its rows belong to {min(others)!r}, the ledger says {receipt.group!r}"


def _evaluation_faults(
    ledger: Ledger,
    receipt: Receipt,
    rows: Sequence[Any],
    lost: Sequence[Rejection],
    places: Places,
) -> Iterator[str]:
    start, unit = receipt.stage_key[:8], held_out_unit(receipt)
    label = receipt.unit.removesuffix(f"-{start}-{unit}")
    problems = ledger.units.get(("evaluation_problems", unit))
    if problems is None:
        yield "its name holds neither the start of its key nor a unit of evaluation_problems"
        return
    if places.evaluated.setdefault((label, start), receipt.stage_key) != receipt.stage_key:
        yield f"its key differs from that of other units of {label}"
    if receipt.group != problems.group:
        yield f"its group is {receipt.group!r}, that of its problems is {problems.group!r}"
    ids = places.held_out.get(unit)
    if ids is None:
        return  # its problems are damaged, which is reported
    rejected = {row.problem_id for row in lost}
    if receipt.stage in JUDGEMENTS:  # what the model lost, no judge reads
        answers = ledger.units.get((JUDGEMENTS[receipt.stage], receipt.unit))
        rejected |= lost_in(ledger, answers) if answers is not None else set()
    wanted = [id_ for id_ in ids if id_ not in rejected]
    messages = list(dict.fromkeys(row.strategy for row in rows))
    answered = [(row.strategy, row.problem_id) for row in rows]
    is_whole = answered == [(message, id_) for message in messages for id_ in wanted]
    if not is_whole or not set(messages) <= places.messages or (wanted and not rows):
        yield f"its rows are not the answers to the {len(wanted)} problems of {unit}"


def _tokens(receipt: Receipt, rows: Sequence[Any]) -> dict[str, int]:
    """The sums of tokens that an engine's receipt counts."""
    if receipt.stage not in ("scores", "judgements", "rationales", *EVALUATIONS):
        return {}
    if "regraded" in receipt.counts:
        return {}  # another run's engine made these rows
    if receipt.stage in JUDGEMENTS:
        made = [reply for row in rows for reply in row.judgement]
    else:
        made = [each for row in rows for each in engine_completions(row)]
    return {
        "prompt_tokens": sum(each.num_prompt_tokens for each in made),
        "completion_tokens": sum(each.num_completion_tokens for each in made),
    }
