"""Samples: exact, seeded, nested, independent of the order, with no row lost in the counts."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.records import Problem
from orca2_gen.tasks.matches import Match
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.sampling import Sample
from tests.tasks.reading import Found, line, problems, reasons, source

SLOW_FINE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)


def sampled(path: Path, format: str = "jsonl", **options: Any) -> tuple[Found, Sample]:
    read = read_task(source(path, format, **options))
    assert read.sample is not None
    return list(read.rows), read.sample


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(lines))
    return path


ROWS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=30)


@SLOW_FINE
@given(rows=ROWS, limit=st.integers(1, 12), seed=st.integers(0, 3))
def test_drawn_and_passed_over_rows_are_all_rows_and_the_sample_is_a_subset(
    tmp_path: Path, rows: list[tuple[int, str, bool]], limit: int, seed: int
) -> None:
    path = write(tmp_path, [line(id=i, category=c) if ok else "{\n" for i, c, ok in rows])
    found, sample = sampled(path, rows_per_task=limit, sample_seed=seed)
    assert len(found) == min(limit, len(rows))
    assert len(found) + sample.num_passed_over == sample.num_rows == len(rows)
    whole = list(read_task(source(path)).rows)
    assert set(problems(found)) <= set(problems(whole))
    assert found == [x for x in whole if x in found]
    got = Counter(reasons(found))["problem"]
    (said,) = [*sample.shortfalls, None][:1]
    assert (said is None) == (got == limit or not rows)
    if said is not None:
        assert min(said.asked, said.held) - said.rejected == got


@SLOW_FINE
@given(rows=ROWS, limit=st.integers(1, 6))
def test_every_category_gives_as_many_as_it_has_up_to_the_limit(
    tmp_path: Path, rows: list[tuple[int, str, bool]], limit: int
) -> None:
    path = write(tmp_path, [line(category=category) for _, category, _ in rows])
    found, sample = sampled(path, rows_per_category=limit)
    held = Counter(category for _, category, _ in rows)
    assert Counter(x.category for x in problems(found)) == {
        category: min(limit, num) for category, num in held.items()
    }
    assert {short.group for short in sample.shortfalls} == {
        f"category '{category}'" for category, num in held.items() if num < limit
    }


def test_a_sample_does_not_depend_on_the_order_and_a_larger_one_holds_it(tmp_path: Path) -> None:
    lines = [line(id=i) for i in range(200)]
    before, _ = sampled(write(tmp_path, lines), rows_per_task=20)
    random.Random(0).shuffle(lines)
    after, _ = sampled(write(tmp_path, lines), rows_per_task=20)
    larger, _ = sampled(write(tmp_path, lines), rows_per_task=50)
    other, _ = sampled(write(tmp_path, lines), rows_per_task=20, sample_seed=1)
    assert set(problems(before)) == set(problems(after)) < set(problems(larger))
    assert set(problems(other)) != set(problems(after))


def test_units_of_any_size_hold_the_same_sample(tmp_path: Path) -> None:
    path = write(tmp_path, [line() for _ in range(100)])
    whole, _ = sampled(path, rows_per_task=30)
    for size in (1, 7, 30, 64):
        rows = read_task(source(path, rows_per_task=30)).rows
        units: list[Found] = []
        while unit := list(itertools.islice(rows, size)):
            units.append(unit)
        assert list(itertools.chain.from_iterable(units)) == whole


def test_every_row_is_drawn_about_as_often_as_any_other(tmp_path: Path) -> None:
    path = write(tmp_path, [line() for _ in range(40)])
    drawn: Counter[str] = Counter()
    for seed in range(100):
        found, _ = sampled(path, rows_per_task=10, sample_seed=seed)
        drawn.update(x.problem_id for x in found)
    assert len(drawn) == 40  # each is expected 25 times, with a deviation of 4.3
    assert min(drawn.values()) > 8 and max(drawn.values()) < 44


def test_a_task_inside_a_mixture_has_a_limit_of_its_own_and_says_when_it_came_short(
    tmp_path: Path,
) -> None:
    names = ["big"] * 30 + ["small"] * 2
    rows = [line(inputs=f"{i}?", targets="y", _task_name=name) for i, name in enumerate(names)]
    found, sample = sampled(write(tmp_path, rows), "flan", rows_per_task=5)
    assert Counter(x.sub_category for x in problems(found)) == {"big": 5, "small": 2}
    assert [short.sentence for short in sample.shortfalls] == [
        "task 'small': asked 5, got 2: it holds 2 rows"
    ]


def test_rejections_in_the_sample_are_a_reason_why_fewer_came(tmp_path: Path) -> None:
    path = write(tmp_path, [line(), "{\n", line(id=0), line()])
    _, sample = sampled(path, rows_per_task=500)
    assert [short.sentence for short in sample.shortfalls] == [
        "task: asked 500, got 2: it holds 4 rows, 2 rejected"
    ]
    _, sample = sampled(write(tmp_path, ["{\n"] * 3), rows_per_task=2)
    assert [short.sentence for short in sample.shortfalls] == [
        "task: asked 2, got 0: 2 drawn, 2 rejected"
    ]


def test_both_limits_hold_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, [line(category="ab"[i % 2]) for i in range(100)])
    found, sample = sampled(path, rows_per_task=30, rows_per_category=10)
    assert Counter(x.category for x in problems(found)) == {"a": 10, "b": 10}
    assert (sample.num_passed_over, sample.shortfalls) == (80, ())
    assert isinstance(found[0], Problem)


def test_what_is_wrong_with_a_file_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    (tmp_path / "b.jsonl").write_text("".join(line(id=i) for i in range(50)))
    found, sample = sampled(tmp_path, rows_per_task=1)
    assert reasons(found) == ["problem", "empty_file"]
    assert len(sample.ordinals) == 1 and sample.num_passed_over == 49


@SLOW_FINE
@given(rows=ROWS, limit=st.integers(1, 12), copied=st.sets(st.integers(0, 30)))
def test_copies_take_nobodys_place_and_those_that_are_drawn_are_rejected(
    tmp_path: Path, rows: list[tuple[int, str, bool]], limit: int, copied: set[int]
) -> None:
    path = write(tmp_path, [line(category=category) for _, category, _ in rows])
    copies = {
        place: Match(
            ordinal=place,
            problem_id=f"t/test/{place}",
            reason="duplicate",
            partner="t",
            similarity=1,
        )
        for place in copied
    }
    for quota in ("rows_per_task", "rows_per_category"):
        read = read_task(source(path, **{quota: limit}), copies=copies)
        found, sample = list(read.rows), read.sample
        assert sample is not None
        left = [category for place, (_, category, _) in enumerate(rows) if place not in copied]
        group = (lambda category: category) if quota.endswith("category") else (lambda _: "")
        held = Counter(map(group, left))
        got = Counter(group(row.category) for row in problems(found))
        assert got == {name: min(num, limit) for name, num in held.items()}
        assert len(found) + sample.num_passed_over == sample.num_rows == len(rows)
        assert {short.held for short in sample.shortfalls} == {
            num for num in held.values() if num < limit
        }
        without = read_task(source(path, **{quota: len(rows) + 1}), copies=copies)
        assert reasons(list(without.rows)).count("duplicate") == len(copied & set(range(len(rows))))
