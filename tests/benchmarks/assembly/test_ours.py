"""Our run from outside: all that it asked, as it was asked, and its rows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.assembly.ours import OurRun, run_ours
from orca2_gen.config.load import load_config
from orca2_gen.records import Example, Rationale, StudentScore
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from tests.conftest import write_run_config


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> tuple[OurRun, Ledger]:
    folder = tmp_path_factory.mktemp("ours")
    method = 'method = "race"'
    config = load_config(write_run_config(folder, chatml_dir, selection=method))
    return run_ours(config), read_ledger(Path(config.run_dir))


def test_what_the_student_was_asked_are_the_committed_cells(found: tuple[OurRun, Ledger]) -> None:
    ours, ledger = found
    cells = {(s.problem_id, s.strategy) for s in committed_rows(ledger, "scores", StudentScore)}
    asked = [(each.problem.problem_id, each.strategy) for each in ours.asked_student]
    assert len(asked) == len(cells)
    assert set(asked) == cells
    assert ours.made.student.num_requests == len(asked)


def test_what_the_teacher_was_asked_are_all_attempts_up_to_the_accepted_one(
    found: tuple[OurRun, Ledger],
) -> None:
    ours, ledger = found
    attempts: dict[str, list[int]] = defaultdict(list)
    for each in ours.asked_teacher:
        attempts[each.problem.problem_id].append(each.attempt)
    accepted = {r.problem_id: r.attempt for r in committed_rows(ledger, "rationales", Rationale)}
    most = ours.ground.config.rationales.max_attempts
    assert attempts.keys() == {
        each.problem_id for problems in ours.ground.problems.values() for each in problems
    }
    for problem_id, found_attempts in attempts.items():
        last = accepted.get(problem_id, most - 1)
        assert sorted(found_attempts) == list(range(last + 1))
    assert any(len(each) > 1 for each in attempts.values())


def test_its_rows_are_the_examples_and_its_clock_begins_after_the_start(
    found: tuple[OurRun, Ledger],
) -> None:
    ours, ledger = found
    assert list(ours.made.rows) == committed_rows(ledger, "examples", Example)
    assert ours.made.rows
    for held in (ours.made.student, ours.made.teacher):
        assert held.seconds > 0
        assert held.start_seconds > 0
        assert held.completion_tokens > 0


def test_the_ground_has_every_committed_problem_and_scores_some_of_each_group(
    found: tuple[OurRun, Ledger],
) -> None:
    ours, ledger = found
    ground = ours.ground
    assert ground.num_problems == sum(r.accepted.rows for r in ledger.committed("problems"))
    for group, scored in ground.scored.items():
        assert len(scored) == min(ground.rule.scored_problems, len(ground.problems[group]))
        assert {each.problem_id for each in scored} <= {
            each.problem_id for each in ground.problems[group]
        }
