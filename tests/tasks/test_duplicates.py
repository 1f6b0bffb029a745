"""Exact copies within and across tasks, and of held-out rows."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection
from orca2_gen.tasks.copies import copies, matches_of_tasks
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from tests.tasks.copying import found_matches, found_partners, problem, task_fingerprints
from tests.tasks.reading import published
from tests.tasks.test_sampling import SLOW_FINE

QUESTIONS = st.sampled_from(["How many?", "how  many ?", "How many are 1,000?", "Why?"])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        QUESTIONS,
        st.sampled_from(["7", "7.0", "8", "red"]),
        st.sampled_from([(), ("7", "8", "red")]),
    ),
    max_size=14,
)


def problems_of(rows: list[tuple[str, str, str, tuple[str, ...]]]) -> list[Problem]:
    return [
        problem(f"{task}/train/{place}", question, "ABC"[place % 3] if choices else gold, choices)
        for place, (task, question, gold, choices) in enumerate(rows)
    ]


def by_task(rows: list[Problem]) -> dict[str, list[Problem]]:
    return {name: [row for row in rows if row.task == name] for name in ("a", "b")}


@given(ROWS)
def test_of_equal_rows_the_one_with_the_smallest_id_stays(
    rows: list[tuple[str, str, str, tuple[str, ...]]],
) -> None:
    asked = problems_of(rows)
    found = found_partners(by_task(asked))
    left = [row for row in asked if row.problem_id not in found]
    assert found_partners(by_task(left)) == {}, "removing twice is removing once"
    for own, (reason, partner) in found.items():
        assert reason == DUPLICATE
        assert partner < own and partner not in found


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_files_and_tasks_decides_nothing(
    rows: list[tuple[str, str, str, tuple[str, ...]]], rng: random.Random
) -> None:
    asked = problems_of(rows)
    shuffled = rng.sample(asked, len(asked))
    assert found_partners({"one": asked}) == found_partners(
        {"b": shuffled[::2], "a": shuffled[1::2]}
    )


@given(ROWS, ROWS)
def test_a_row_is_contaminated_iff_a_held_out_row_is_its_equal(
    rows: list[tuple[str, str, str, tuple[str, ...]]],
    held: list[tuple[str, str, str, tuple[str, ...]]],
) -> None:
    asked = problems_of(rows)
    held_out = [
        dataclasses.replace(row, problem_id=row.problem_id.replace("train", "test"))
        for row in problems_of(held)
    ]
    found = found_partners(by_task(asked), {"test": held_out})
    for row in asked:
        equal = [
            each.problem_id
            for each in held_out
            if found_partners({"a": [dataclasses.replace(row, problem_id="z"), each]})
        ]
        if equal:
            assert found[row.problem_id] == (CONTAMINATED, min(equal))
        else:
            assert found.get(row.problem_id, (DUPLICATE,))[0] == DUPLICATE


@SLOW_FINE
@given(rows=ROWS, held=ROWS)
def test_every_row_is_a_problem_or_a_rejection_and_none_is_both(
    tmp_path: Path,
    rows: list[tuple[str, str, str, tuple[str, ...]]],
    held: list[tuple[str, str, str, tuple[str, ...]]],
) -> None:
    sources = []
    for split, of_split in (("train", rows), ("test", held)):
        path = tmp_path / f"{split}.jsonl"
        texts = [{"question": question, "answer": gold} for _, question, gold, _ in of_split]
        path.write_text("".join(json.dumps(text) + "\n" for text in texts))
        sources.append(TaskSource(name="t", format="jsonl", path=path, split=split))
    tasks = [task_fingerprints(tmp_path, source) for source in sources]
    [(_, matches)] = matches_of_tasks(tasks[:1], copies(tasks[:1], tasks[1:]))
    read = list(read_task(sources[0], copies={match.ordinal: match for match in matches}).rows)
    assert Counter(row.problem_id for row in read) == Counter(
        f"t/train/{place}" for place in range(len(rows))
    )
    rejected = {row.problem_id: row.reason for row in read if isinstance(row, Rejection)}
    assert rejected == {match.problem_id: match.reason for match in matches}
    whole = {row.problem_id: row for row in read_task(sources[0]).rows}
    assert all(whole[row.problem_id] == row for row in read if isinstance(row, Problem))


ROW = problem("t/b", "Which of 3 is it, 1,000 or 2?", "A", ("red", "blue"))


@pytest.mark.parametrize(
    "changed",
    [
        {"question": "Which of 4 is it, 1,000 or 2?"},
        {"question": "Which of 3 is it, 1,001 or 2?"},
        {"question": "Which of 3 was it, 1,000 or 2?"},
        {"target": "B"},
        {"choices": ("red", "green")},
        {"choices": ("red", "blue", "green")},
    ],
    ids=str,
)
def test_a_row_with_another_number_gold_or_choice_stays(changed: dict[str, object]) -> None:
    other = dataclasses.replace(ROW, problem_id="t/a", **changed)  # type: ignore[arg-type]
    assert found_partners({"t": [ROW, other]}) == {}
    assert found_partners({"t": [ROW]}, {"t": [other]}) == {}


def test_choices_in_another_order_do_not_hide_a_copy() -> None:
    other = dataclasses.replace(ROW, problem_id="t/a", choices=("Blue", "Red"), target="B")
    assert found_partners({"t": [ROW, other]}) == {"t/b": (DUPLICATE, "t/a")}


def test_a_held_out_row_with_one_of_several_golds_in_common_counts() -> None:
    row = dataclasses.replace(problem("t/train/1", "Who?", "Ann"), other_targets=("Bob",))
    held = problem("t/test/1", "who?", "BOB")
    assert found_partners({"t": [row]}, {"t": [held]}) == {"t/train/1": (CONTAMINATED, "t/test/1")}


def test_a_row_whose_id_is_taken_is_no_ones_partner() -> None:
    rows = [problem("t/1", "One?", "1"), problem("t/1", "Two?", "2"), problem("t/2", "Two?", "2")]
    assert found_partners({"t": rows}) == {}


@pytest.mark.parametrize(
    "name", ["lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-math", "logiqa-en", "aqua-rat"]
)
def test_a_task_with_shared_passages_loses_no_row(tmp_path: Path, name: str) -> None:
    path = published(f"agieval_{name}.jsonl")
    task = task_fingerprints(
        tmp_path, TaskSource(name=name, format="agieval", path=path, split="x")
    )
    assert copies([task], []) == []


def test_shares_of_a_file_find_what_the_whole_finds(tmp_path: Path) -> None:
    path = published("gsm8k_train.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)[:6000]
    (tmp_path / "twice.jsonl").write_bytes(b"".join(lines + lines[:300]))
    source = TaskSource(name="g", format="gsm8k", path=tmp_path / "twice.jsonl", split="train")
    whole = copies([task_fingerprints(tmp_path, source)], [])
    assert len(whole) == 300
    assert copies([task_fingerprints(tmp_path, source, num_shares=2)], []) == whole


def test_a_match_says_what_it_repeats() -> None:
    rows = [problem("t/1", "One?", "1"), problem("t/2", "ONE ?", "1")]
    rejection = found_matches({"t": rows})["t/2"].rejection("problems", "t.jsonl:2")
    assert (rejection.problem_id, rejection.reason) == ("t/2", DUPLICATE)
    assert rejection.detail == (
        "t.jsonl:2: asks the same question as t/1, which stays, and has the same gold answer"
    )
