"""Problems in memory -> the rows that are found to be copies, by problem id."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca2_gen.records import Problem
from orca2_gen.tasks.copies import copies, matches_of_tasks
from orca2_gen.tasks.duplicates import TaskFingerprints
from orca2_gen.tasks.fingerprints import Share, fingerprint, fingerprints, write_fingerprints
from orca2_gen.tasks.matches import Match
from orca2_gen.tasks.source import TaskSource

Tasks = Mapping[str, Sequence[Problem]]


def problem(problem_id: str, question: str, target: str, choices: tuple[str, ...] = ()) -> Problem:
    kind = "multiple_choice" if choices else "exact"
    return Problem(
        problem_id=problem_id,
        task=problem_id.partition("/")[0],
        question=question,
        target=target,
        answer_type=kind,
        choices=choices,
    )


def found_matches(trained: Tasks, held_out: Tasks | None = None) -> dict[str, Match]:
    with tempfile.TemporaryDirectory() as folder:
        asked = [_written(Path(folder), f"t-{name}", rows) for name, rows in trained.items()]
        held = [
            _written(Path(folder), f"h-{name}", rows) for name, rows in (held_out or {}).items()
        ]
        found = matches_of_tasks(asked, copies(asked, held))
        return {match.problem_id: match for _, matches in found for match in matches}


def found_partners(trained: Tasks, held_out: Tasks | None = None) -> dict[str, tuple[str, str]]:
    found = found_matches(trained, held_out)
    return {own: (match.reason, match.partner) for own, match in found.items()}


def _written(folder: Path, name: str, rows: Sequence[Problem]) -> TaskFingerprints:
    path = folder / f"{name}.arrow"
    write_fingerprints((fingerprint(row, place) for place, row in enumerate(rows)), path)
    return TaskFingerprints(task=name, files=(path,))


def task_fingerprints(folder: Path, source: TaskSource, num_shares: int = 1) -> TaskFingerprints:
    """Fingerprints of a task's files, in files of the folder."""
    paths = []
    for index in range(num_shares):
        paths.append(folder / f"{source.name}-{source.split}-{index}.arrow")
        write_fingerprints(fingerprints(source, Share(index=index, of=num_shares)), paths[-1])
    return TaskFingerprints(task=source.name, files=tuple(paths))
