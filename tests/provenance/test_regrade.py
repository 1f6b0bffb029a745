from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.load import load_config, resolved
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.judging import judged
from orca2_gen.provenance.inputs import read_inputs
from orca2_gen.provenance.recorded import record_stages
from orca2_gen.provenance.regrade import (
    Changes,
    asked_cells,
    count_changes,
    regrade_all,
    rejudge_all,
    winner_lines,
)
from orca2_gen.provenance.stage_keys import stage_determinants, stage_keys
from orca2_gen.records import Problem, Rejection, Selection, StudentScore
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.selection.decision import Group, next_step
from orca2_gen.strategies import load_strategies
from orca2_gen.tasks.read import READER_VERSION
from tests.conftest import Write, keys_of, source_of
from tests.selection.test_decision import OUTCOMES, RULE, score_of

NAMES = RULE.strategies
OLDER = GRADER_VERSION - 1


def stored_run(
    file: Path,
    run_dir: Path,
    *overrides: str,
    grader: int = OLDER,
    readers: int = READER_VERSION,
) -> Path:
    """A run directory with one unit of scores, as an older program recorded it."""
    config = load_config(file, [*overrides, f"run_dir={run_dir}"])
    determinants = stage_determinants(config, read_inputs(config))
    determinants["scores"]["grader"] = grader
    determinants["problems"]["readers"] = readers
    keys = stage_keys(determinants)
    name = UnitName(stage="scores", stage_key=keys["scores"], unit="sums-000000")
    ledger = read_ledger(run_dir, writable=True)
    receipt = write_unit(run_dir, name, [score_of(0, NAMES[0], "correct", 1)], StudentScore)
    ledger.commit([receipt])
    record_stages(ledger, resolved(config), determinants, keys, load_strategies(config.strategies))
    return run_dir


@pytest.mark.parametrize("grader", [OLDER, GRADER_VERSION, GRADER_VERSION + 1])
@pytest.mark.parametrize(
    "override",
    [
        "student.replicas=3",
        "selection.method=race",
        "selection.delta=0.3",
        "selection.indifference=0.1",
        "selection.none_solved=step_by_step",
        "rationales.temperature=0.1",
        "teacher.accuracy.step_by_step=0.1",
        "evaluation.max_tokens=9",
    ],
)
def test_scores_of_any_grader_may_be_graded_anew_whatever_follows_from_them(
    write_config: Write, tmp_path: Path, override: str, grader: int
) -> None:
    file = write_config()
    source = source_of(
        stored_run(file, tmp_path / "old", grader=grader), load_config(file, [override])
    )
    assert source.grader == grader
    assert [receipt.unit for receipt in source.ledger.committed("scores")] == ["sums-000000"]


@pytest.mark.parametrize("readers", [READER_VERSION - 1, READER_VERSION, READER_VERSION + 1])
@pytest.mark.parametrize(
    "override",
    [
        "student.replicas=3",
        "tasks.0.path={folder}/more.jsonl",
        "tasks.0.answer_type=exact",
        "tasks.0.few_shot=[1, 2]",
        "tasks.0.rows_per_task=9",
        'tasks.0.columns={ question = "question", answer = "answer" }',
        "tasks.0.name=additions",
    ],
)
def test_task_files_may_be_read_otherwise_since_problems_are_compared(
    write_config: Write, tmp_path: Path, override: str, readers: int
) -> None:
    file = write_config()
    (tmp_path / "more.jsonl").write_bytes(2 * (tmp_path / "sums.jsonl").read_bytes())
    run_dir = stored_run(file, tmp_path / "old", readers=readers)
    config = load_config(file, [override.replace("{folder}", str(tmp_path))])
    source = source_of(run_dir, config)
    is_equal = (override, readers) == ("student.replicas=3", READER_VERSION)
    assert (source.readings["problems"].key == keys_of(config)["problems"]) == is_equal
    assert source.readings["problems"].readers == readers


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("selection.scored_problems=11", "scores.scored_problems: 12 -> 11"),
        ("selection.block_size=5", "scores.block_size: 4 -> 5"),
        ("selection.cautious_arm=true", "scores.cautious_arm: false -> true"),
        ("selection.policy=random", "scores.needed: true -> false"),
        ("selection.policy=teacher_best", 'scores.role: "student" -> "teacher"'),
        ("scoring.max_tokens=9", "scores.max_tokens: [512, 1024] -> [9, 18]"),
        ("student.accuracy.step_by_step=0.1", "step_by_step: 0.7 -> 0.1"),
        ("run_seed=7", "run_seed: 0 -> 7"),
        ("tasks.0.split=test", 'problems.tasks.sums.split: "train" -> "test"'),
        ("rows_per_unit=9", "problems.rows_per_unit: 8 -> 9"),
    ],
)
def test_scores_made_otherwise_are_refused_in_one_line_that_shows_the_difference(
    write_config: Write, tmp_path: Path, override: str, difference: str
) -> None:
    file = write_config()
    run_dir = stored_run(file, tmp_path / "old")
    before = (run_dir / "ledger.jsonl").read_bytes()
    with pytest.raises(ValueError, match="made differently") as found:
        source_of(run_dir, load_config(file, [override]))
    assert difference in str(found.value) and "\n" not in str(found.value)
    assert (run_dir / "ledger.jsonl").read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_a_source_is_refused(write_config: Write, tmp_path: Path) -> None:
    file = write_config()
    config = load_config(file)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        source_of(tmp_path / "nothing", config)
    run_dir = stored_run(file, tmp_path / "old")
    with pytest.raises(ValueError, match="own run_dir"):
        source_of(run_dir, load_config(file, [f"run_dir={run_dir}"]))
    recorded = (run_dir / "config.json").read_text()
    (run_dir / "config.json").write_text(recorded[:-9])
    with pytest.raises(ValueError, match="is not JSON of ours"):
        source_of(run_dir, config)
    (run_dir / "config.json").write_text(recorded.replace('"grader": ', '"grader": 9'))
    with pytest.raises(ValueError, match="does not match the scores beside it"):
        source_of(run_dir, config)
    (run_dir / "config.json").write_text(recorded)
    for name in ("ledger.jsonl", "ledger.tip.json", "scores/sums-000000.a1-0.arrow"):
        (run_dir / name).unlink()
    with pytest.raises(ValueError, match="holds no scores and no evaluation"):
        source_of(run_dir, config)


def problem_of(number: int) -> Problem:
    return Problem(
        problem_id=f"sums/train/{number}",
        task="sums",
        question=f"What is {number} + 0?",
        target=str(number),
        answer_type="numeric",
    )


@given(
    num=st.integers(1, 6),
    lost=st.sets(st.integers(0, 5)),
    asked=st.lists(st.sampled_from(NAMES), unique=True),
    missing=st.sets(st.tuples(st.integers(0, 5), st.sampled_from(NAMES))),
)
def test_a_block_is_taken_over_exactly_if_it_holds_every_cell_that_is_asked(
    num: int, lost: set[int], asked: list[str], missing: set[tuple[int, str]]
) -> None:
    cells = [(n, name) for name in NAMES for n in range(num) if n not in lost]
    scores = [score_of(n, name, "correct", 1) for n, name in cells if (n, name) not in missing]
    rejections = [
        Rejection(problem_id=f"sums/train/{n}", stage="scores", reason="engine_died", detail="d")
        for n in lost
    ]
    kept = asked_cells(scores, rejections, [problem_of(n) for n in range(num)], asked)
    wanted = [(n, name) for name in asked for n in range(num) if n not in lost]
    if missing & set(wanted):
        assert kept is None
    else:
        assert kept == [score_of(n, name, "correct", 1) for n, name in wanted]


def test_scores_are_graded_with_their_own_problem_and_keep_their_order() -> None:
    problems = [problem_of(n) for n in range(4)]
    stored = [
        dataclasses.replace(score_of(n, name, "ungraded", 7), text=f"Answer: {said}")
        for name in NAMES
        for n, said in ((2, 2), (0, 1), (3, 3))
    ]
    found = regrade_all(stored, problems)
    assert [s.outcome for s in found] == ["correct", "incorrect", "correct"] * len(NAMES)
    assert [(s.problem_id, s.strategy, s.text) for s in found] == [
        (s.problem_id, s.strategy, s.text) for s in stored
    ]


def judged_before(score: StudentScore, was: str) -> StudentScore | None:
    """What another run's judgements hold of an answer."""
    if was == "replied":
        text = "It agrees.\nScore: 5"
        reply = dataclasses.replace(score.completion, role="judge", text=text)
        return judged(dataclasses.replace(score, outcome="ungraded"), (reply,))
    outcome = {"truncated then": "truncated", "of another text": "ungraded"}.get(was, "ungraded")
    text = "Something else." if was == "of another text" else score.text
    return None if was == "missing" else dataclasses.replace(score, outcome=outcome, text=text)


def kinds_of(num: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(["open", "exact"]), min_size=num, max_size=num)


BEFORE = ["replied", "could not be asked", "missing", "truncated then", "of another text"]


@given(data=st.data(), outcomes=st.lists(st.sampled_from(["ungraded", "truncated"]), min_size=1))
def test_an_answer_is_judged_by_its_stored_reply_and_a_block_without_one_is_left_to_the_judge(
    data: st.DataObject, outcomes: list[str]
) -> None:
    problems = [
        dataclasses.replace(problem_of(n), answer_type=kind)
        for n, kind in enumerate(data.draw(kinds_of(len(outcomes))))
    ]
    scores = [score_of(n, NAMES[0], outcome, 1) for n, outcome in enumerate(outcomes)]
    before = [data.draw(st.sampled_from(BEFORE)) for _ in scores]
    lost = data.draw(st.sets(st.integers(0, len(scores) - 1)))
    rejections = [
        Rejection(problem_id=f"sums/train/{n}", stage="judgements", reason="r", detail="d")
        for n in lost
    ]
    stored = [judged_before(score, was) for score, was in zip(scores, before, strict=True)]
    found = rejudge_all(
        scores,
        {problem.problem_id: problem for problem in problems},
        [row for row in stored if row is not None][::-1],
        rejections,
    )
    kept = [n for n in range(len(scores)) if n not in lost]
    asked = [n for n in kept if (problems[n].answer_type, outcomes[n]) == ("open", "ungraded")]
    if any(before[n] not in BEFORE[:2] for n in asked):
        assert found is None
        return
    assert found is not None and len(found) == len(kept)
    for n, row in zip(kept, found, strict=True):
        assert row == (stored[n] if n in asked else scores[n])
        assert (row.outcome == "correct") == (n in asked and before[n] == "replied")


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)), min_size=1))
def test_every_verdict_that_is_another_is_counted_once_and_moves_the_accuracy(
    outcomes: list[tuple[str, str]],
) -> None:
    old = [score_of(n, NAMES[0], was, 1) for n, (was, _) in enumerate(outcomes)]
    new = [score_of(n, NAMES[0], now, 1) for n, (_, now) in enumerate(outcomes)]
    changes: dict[tuple[str, str, str], Changes] = {}
    count_changes(changes, "scores", reversed(old), new)
    [found] = changes.values()
    assert found.num_cells == len(outcomes)
    changed = found.now_correct + found.now_not_correct + found.other
    assert changed == sum(was != now for was, now in outcomes)
    gained = (found.now_correct - found.now_not_correct) / len(outcomes)
    assert found.after - found.before == pytest.approx(gained)


def test_cells_that_only_one_side_holds_are_no_change() -> None:
    changes: dict[tuple[str, str, str], Changes] = {}
    here, there = score_of(0, NAMES[0], "correct", 1), score_of(0, NAMES[1], "correct", 1)
    count_changes(changes, "scores", [there], [here])
    assert changes == {}


def selection_of(group: str, winner: str) -> Selection:
    rule = dataclasses.replace(RULE, policy=f"fixed:{winner}")
    found = next_step(Group(name=group, num_problems=3, num_groups=2), rule, {})
    assert isinstance(found, Selection)
    return found


def test_winners_that_differ_and_groups_that_are_open_again_are_named() -> None:
    old = [selection_of(group, NAMES[0]) for group in ("a", "b", "c")]
    new = [selection_of("a", NAMES[0]), selection_of("b", NAMES[1])]
    assert list(winner_lines(old, new, ["c", "d"])) == [
        f"b: {NAMES[1]} wins, it was {NAMES[0]}",
        f"open: c (it was {NAMES[0]}), d; `orca2 run` scores, or judges, what is missing",
    ]
    assert list(winner_lines(old, old, [])) == ["no winner differs"]
    assert list(winner_lines([], new, [])) == []
