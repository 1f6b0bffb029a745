"""Examples of few-shot problems: from their own group, different, never held out, stable."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Problem, Rejection, Shot
from orca2_gen.tasks.pools import (
    MAX_POOLED,
    MAX_POOLED_IN_ALL,
    MIN_POOLED,
    Pool,
    PoolKey,
    fill_pools,
    question_key,
    with_examples,
)
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.taxonomy import NO_TAXONOMY, Branch, Taxonomy
from tests.tasks.reading import Found, line, problems, reasons, source
from tests.tasks.test_sampling import SLOW_FINE, write

SPELLINGS = ("What is number {}?", "what is  NUMBER {}?", "\tWhat\n is number {}? ")


def read_few_shot(
    path: Path,
    few_shot: tuple[int, int],
    *,
    held_out: Path | None = None,
    fits: Callable[[Problem], bool] = lambda problem: True,
    format: str = "jsonl",
    taxonomy: Taxonomy = NO_TAXONOMY,
    **options: Any,
) -> Found:
    others = [source(held_out, format)] if held_out is not None else []
    task = source(path, format, few_shot=few_shot, **options)
    return list(read_task(task, taxonomy, held_out=others, fits=fits).rows)


def examples_by_id(found: Found) -> dict[str, tuple[Shot, ...]]:
    return {problem.problem_id: problem.examples for problem in problems(found)}


Rows = list[tuple[int, int, str, str, bool]]
ROWS = st.lists(
    st.tuples(
        st.integers(0, 25),  # id
        st.integers(0, 12),  # question
        st.sampled_from(SPELLINGS),
        st.sampled_from("ab"),  # category
        st.booleans() | st.just(True),
    ),
    max_size=30,
)
BOUNDS = st.tuples(st.integers(1, 5), st.integers(1, 5)).map(lambda pair: (min(pair), max(pair)))


def lines_of(rows: Rows) -> list[str]:
    return [
        line(id=own, question=spelling.format(n), answer=f"row {place}", category=category)
        if is_good
        else "{\n"
        for place, (own, n, spelling, category, is_good) in enumerate(rows)
    ]


@SLOW_FINE
@given(rows=ROWS, bounds=BOUNDS, seed=st.integers(0, 3), held_out=st.sets(st.integers(0, 12)))
def test_examples_are_other_accepted_rows_of_the_group_and_none_is_held_out_or_twice(
    tmp_path: Path, rows: Rows, bounds: tuple[int, int], seed: int, held_out: set[int]
) -> None:
    path = write(tmp_path, lines_of(rows))
    evaluation = tmp_path / "held_out.jsonl"
    evaluation.write_text("".join(line(question=SPELLINGS[1].format(n)) for n in held_out))
    barred = {question_key(SPELLINGS[0].format(n)) for n in held_out}
    plain = list(read_task(source(path)).rows)
    found = read_few_shot(path, bounds, held_out=evaluation, sample_seed=seed)
    assert len(found) == len(plain)
    for row, before in zip(found, plain, strict=True):
        if isinstance(before, Rejection):
            assert row == before
            continue
        group = [p for p in problems(plain) if p.category == before.category]
        own = question_key(before.question)
        others = {question_key(p.question) for p in group} - barred - {own}
        assert row.problem_id == before.problem_id
        assert isinstance(row, Problem) == (len(others) >= bounds[0])
        if isinstance(row, Rejection):
            assert row.reason == "too_few_examples" and f"found {len(others)} " in row.detail
            continue
        keys = [question_key(shot.question) for shot in row.examples]
        assert bounds[0] <= len(keys) <= min(bounds[1], len(others))
        assert len(set(keys)) == len(keys) and set(keys) <= others
        stated = {(p.question, p.target) for p in group}
        assert {(shot.question, shot.target) for shot in row.examples} <= stated


@SLOW_FINE
@given(rows=ROWS, seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_a_sample_changes_a_problems_examples(
    tmp_path: Path, rows: Rows, seed: int, shuffle: random.Random
) -> None:
    rows = list({row[0]: row for row in rows}.values())  # of equal ids the first in order counts
    lines = lines_of(rows)
    whole = examples_by_id(read_few_shot(write(tmp_path, lines), (1, 3), sample_seed=seed))
    sampled = examples_by_id(
        read_few_shot(tmp_path / "rows.jsonl", (1, 3), sample_seed=seed, rows_per_task=7)
    )
    assert sampled.items() <= whole.items()
    shuffle.shuffle(lines)
    assert examples_by_id(read_few_shot(write(tmp_path, lines), (1, 3), sample_seed=seed)) == whole


def test_a_seed_gives_the_same_examples_again_and_another_seed_others(tmp_path: Path) -> None:
    path = write(tmp_path, [line(question=f"What is {n}?", id=n) for n in range(60)])
    first, again, other = (
        examples_by_id(read_few_shot(path, (3, 5), sample_seed=seed)) for seed in (4, 4, 5)
    )
    assert first == again
    assert sum(first[own] != other[own] for own in first) > 55
    assert set(map(len, first.values())) == {3, 4, 5}
    # 240 draws of 60: one in sixty is expected to stay away.
    assert len({shot for shots in first.values() for shot in shots}) > 50


def test_every_example_comes_first_and_last_as_often_as_any_other() -> None:
    pool = Pool(shots=tuple(Shot(question=str(n), target="x") for n in range(10)))
    drawn = []
    for n in range(2_000):
        row = with_examples(problem_of(f"q{n}"), pool, few_shot=(3, 3), seed=0, stage="problems")
        assert isinstance(row, Problem)
        drawn.append(row.examples)
    for place in (0, 2):
        counts = Counter(examples[place].question for examples in drawn)
        # 200 expected; six standard deviations of a binomial count are 81.
        assert len(counts) == 10 and all(119 < count < 281 for count in counts.values())


def test_rows_that_do_not_fit_are_no_examples_and_stay_rows(tmp_path: Path) -> None:
    path = write(tmp_path, [line(question=f"What is {n}?" + " long" * (n % 2)) for n in range(20)])
    found = read_few_shot(path, (3, 5), fits=lambda problem: "long" not in problem.question)
    assert reasons(found) == ["problem"] * 20
    assert all("long" not in shot.question for p in problems(found) for shot in p.examples)


def test_examples_in_a_mixture_are_of_the_same_one_of_its_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("task001_rhymes", "task002_sums"):
        rows = [{"id": f"{name}-{n}", "input": f"{n}", "output": [name]} for n in range(9)]
        document = {"Definition": [f"Do {name}."], "Categories": ["same"], "Instances": rows}
        (folder / f"{name}.json").write_text(json.dumps(document))
    # A taxonomy may call both tasks the same; they stay two.
    both = {name: Branch(category="c", sub_category="s") for name in ("task001_rhymes", "t")}
    found = problems(read_few_shot(folder, (3, 5), format="natural_instructions", taxonomy=both))
    assert len(found) == 18
    assert all({shot.target for shot in p.examples} == {p.target} for p in found)


def test_examples_are_of_the_problems_answer_type(tmp_path: Path) -> None:
    options = "\nOPTIONS:\n- yes\n- no"
    rows = [
        {"inputs": f"Is {n} even?" + options * (n % 2), "targets": "yes", "_task_name": "even"}
        for n in range(20)
    ]
    path = write(tmp_path, [json.dumps(row) + "\n" for row in rows])
    found = problems(read_few_shot(path, (3, 3), format="flan"))
    assert {p.answer_type for p in found} == {"multiple_choice", "exact"}
    for problem in found:
        assert all(bool(s.choices) == bool(problem.choices) for s in problem.examples)


def test_a_file_listed_few_shot_and_zero_shot_has_different_ids_by_the_tasks_names(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, [line(question=f"What is {n}?", id=n) for n in range(9)])
    few = {row.problem_id for row in read_few_shot(path, (3, 5))}
    zero = {row.problem_id for row in read_task(dataclasses.replace(source(path), name="z")).rows}
    assert len(few) == len(zero) == 9 and few.isdisjoint(zero)


def problem_of(own: str, question: str = "") -> Problem:
    return Problem(
        problem_id=f"t/train/{own}",
        task="t",
        question=question or own,
        target=own,
        answer_type="exact",
    )


def filled(
    rows: Sequence[tuple[PoolKey, Problem]], fits: Callable[[Problem], bool] = lambda p: True
) -> dict[PoolKey, Pool]:
    return dict(fill_pools(iter(rows), seed=1, held_out=frozenset(), fits=fits))


def test_a_pool_is_bounded_and_asks_what_fits_about_few_rows() -> None:
    group: PoolKey = ("", "", "exact")
    asked = itertools.count()
    rows = [(group, problem_of(str(n))) for n in range(20_000)]
    pool = filled(rows, lambda p: next(asked) >= 0)[group]
    assert len(pool.shots) == MAX_POOLED == len(pool.place_of)
    # About 1,000 x (1 + ln 20) rows are among the smallest when they come.
    assert MAX_POOLED < next(asked) < 5_000
    assert filled(rows[::-1])[group] == pool


def test_many_groups_share_what_is_held_whatever_their_order() -> None:
    rows = [(("", f"c{n % 250}", "exact"), problem_of(str(n))) for n in range(250 * 420)]
    pools = filled(rows)
    assert {len(pool.shots) for pool in pools.values()} == {MAX_POOLED_IN_ALL // 250}
    random.Random(3).shuffle(rows)
    assert filled(rows) == pools
    lone = filled([(("", f"c{n // 60}", "exact"), problem_of(str(n))) for n in range(60 * 2_100)])
    assert {len(pool.shots) for pool in lone.values()} == {MIN_POOLED}


@given(
    rows=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), unique_by=lambda row: row[0]),
    shuffle=st.randoms(use_true_random=False),
)
def test_of_rows_with_one_question_the_first_id_that_fits_is_the_example(
    rows: list[tuple[int, int]], shuffle: random.Random
) -> None:
    group: PoolKey = ("", "", "exact")
    made = [(group, problem_of(f"{own:02d}", f"What is {n}?")) for own, n in rows]
    shuffle.shuffle(made)
    pools = filled(made, lambda p: not p.problem_id.endswith("3"))
    shots = pools[group].shots if made else ()
    fitting = {n: f"{own:02d}" for own, n in sorted(rows, reverse=True) if own % 10 != 3}
    assert sorted((s.question, s.target) for s in shots) == sorted(
        (f"What is {n}?", own) for n, own in fitting.items()
    )
