"""An older run's problems beside this run's, by id and by the words in which they are asked.

A completion depends on its problem's id and on the texts that a model was shown: the question with
its examples, options and answer sentence, and the system messages. The gold answer is in none of
them, and the answer type only through its sentence. So a completion outlives another reader of the
task files, if that reader asks in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.judging import judging_messages
from orca2_gen.prompts import user_text
from orca2_gen.provenance.recorded import differences
from orca2_gen.records import Problem
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import Strategies
from orca2_gen.tasks.read import READER_VERSION


def is_asked_alike(
    older: Problem, problem: Problem, names: Iterable[str], strategies: Strategies
) -> bool:
    """Whether two problems show a model the same texts under each of these system messages."""
    return (
        older.problem_id == problem.problem_id
        and user_text(older, strategies) == user_text(problem, strategies)
        and all(
            strategies.system_message(name, older) == strategies.system_message(name, problem)
            for name in names
        )
    )


def is_judged_alike(older: Problem, problem: Problem) -> bool:
    """Whether a judge is shown the same about an answer to either problem, reference included."""
    return judging_messages(older, "") == judging_messages(problem, "")


def asked_alike(
    older: Iterable[Problem],
    problems: Iterable[Problem],
    names: Sequence[str],
    strategies: Strategies,
) -> dict[str, tuple[Problem, Problem]]:
    """Id -> the older and the new problem, of all that are asked alike."""
    stored = {problem.problem_id: problem for problem in older}
    pairs = ((stored.get(problem.problem_id), problem) for problem in problems)
    return {
        problem.problem_id: (old, problem)
        for old, problem in pairs
        if old is not None and is_asked_alike(old, problem, names, strategies)
    }


@dataclass(kw_only=True, slots=True)
class Matching:
    """Counts of a stage's problems in two runs, and what differs in those that are asked alike."""

    num_here: int = 0
    num_older: int = 0
    num_alike: int = 0
    num_reworded: int = 0
    """Problems of both runs that are asked in other words."""
    golds: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Id of a problem that is asked alike -> its older and its new gold answers, if they differ."""
    answer_types: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The same for answer types."""
    older_groups: dict[str, set[str]] = field(default_factory=dict)
    """Group -> groups of the older run that hold its problems: a reader may have moved some."""
    older_units: dict[str, set[str]] = field(default_factory=dict)
    """Unit -> units of the older run that hold its problems."""

    def add(self, older: Problem, problem: Problem, *, is_alike: bool) -> None:
        """Counts a problem that both runs hold."""
        if not is_alike:
            self.num_reworded += 1
            return
        self.num_alike += 1
        if (was := _gold(older)) != (now := _gold(problem)):
            self.golds[problem.problem_id] = (was, now)
        if older.answer_type != problem.answer_type:
            self.answer_types[problem.problem_id] = (older.answer_type, problem.answer_type)


def _gold(problem: Problem) -> str | list[str]:
    others = problem.other_targets
    return [problem.target, *others] if others else problem.target


def match_problems(
    before: Ledger, after: Ledger, stage: str, names: Sequence[str], strategies: Strategies
) -> Matching:
    """The Matching of a stage of problems in an older run and in this one.

    Args:
        before: the older run's.
        after: this run's; it has read its task files.
        stage: problems or evaluation_problems.
        names: the system messages under which the problems are asked.
        strategies: the texts of both runs.

    Raises:
        DamagedFile: a file of either run is damaged.
    """
    found = Matching()
    older, here = _by_group(before, stage), _by_group(after, stage)
    gone: dict[str, _Placed] = {}
    added: dict[str, _Placed] = {}

    def add(old: _Placed, new: _Placed) -> None:
        found.older_groups.setdefault(new[0].group, set()).add(old[0].group)
        found.older_units.setdefault(new[0].unit, set()).add(old[0].unit)
        is_alike = is_asked_alike(old[1], new[1], names, strategies)
        found.add(old[1], new[1], is_alike=is_alike)

    for group in sorted(older.keys() | here.keys()):
        left = {each[1].problem_id: each for each in _read(before, older.get(group, []))}
        found.num_older += len(left)
        for placed in _read(after, here.get(group, [])):
            found.num_here += 1
            problem_id = placed[1].problem_id
            if problem_id in left:
                add(left.pop(problem_id), placed)
            else:
                added[problem_id] = placed
        gone |= left
    for problem_id in sorted(added.keys() & gone.keys()):
        add(gone[problem_id], added[problem_id])
    return found


_Placed = tuple[Receipt, Problem]
"""A problem and the receipt of its unit."""


def _by_group(ledger: Ledger, stage: str) -> dict[str, list[Receipt]]:
    found: dict[str, list[Receipt]] = {}
    for receipt in ledger.committed(stage):
        found.setdefault(receipt.group, []).append(receipt)
    return found


def _read(ledger: Ledger, receipts: Iterable[Receipt]) -> Iterator[_Placed]:
    for receipt in receipts:
        for problem in read_records(ledger.run_dir, receipt.accepted, Problem):
            yield receipt, problem


def matching_lines(found: Matching, stage: str, readers: int | None) -> Iterator[str]:
    """Lines for people: how many problems match, and which gold answers differ, old -> new.

    `readers` is the version of the older run's readers.
    """
    name = stage.replace("_", " ")
    num_both = found.num_alike + found.num_reworded
    versions = "" if readers == READER_VERSION else f"; readers {readers} -> {READER_VERSION}"
    yield (
        f"{name}: {found.num_alike} of {found.num_here} match by id and prompt (in other words: "
        f"{found.num_reworded}, new: {found.num_here - num_both}, only in the older run: "
        f"{found.num_older - num_both} of {found.num_older}){versions}"
    )
    if found.num_alike:
        yield f"{name}: {_differing('gold answer', found.golds, found.num_alike)}"
    if found.answer_types:
        yield f"{name}: {_differing('answer type', found.answer_types, found.num_alike)}"


def _differing(what: str, changes: Mapping[str, tuple[Any, Any]], num: int) -> str:
    if not changes:
        return f"no {what} differs"
    old = {problem_id: was for problem_id, (was, _) in changes.items()}
    new = {problem_id: now for problem_id, (_, now) in changes.items()}
    return f"{len(changes)} of {num} have another {what}: {differences(old, new)}"
