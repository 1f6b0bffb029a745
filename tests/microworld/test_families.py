"""Questions, gold answers and worked texts of the microworld."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.grade import grade
from orca2_gen.microworld.corpus import problem_of
from orca2_gen.microworld.families import FAMILIES
from orca2_gen.microworld.item import DIRECT, Item, Split
from orca2_gen.microworld.open_book import column_sums
from orca2_gen.microworld.world import WORLD_SEED, build_world
from tests.conftest import STRATEGY_NAMES

WORLD = build_world()
SPLITS: tuple[Split, ...] = ("student", "teacher", "train", "test")

seeds = st.integers(min_value=0, max_value=2**32)
splits = st.sampled_from(SPLITS)
families = st.sampled_from(sorted(FAMILIES))


def draw(family: str, seed: int, split: Split) -> Item:
    return FAMILIES[family].draw(WORLD, random.Random(seed), split)


@given(families, seeds, splits)
def test_every_strategy_has_a_completion_that_ends_in_the_gold_answer(
    family: str, seed: int, split: Split
) -> None:
    item = draw(family, seed, split)
    assert set(item.completions) == set(STRATEGY_NAMES)
    assert all(text.endswith(f"Answer: {item.target}") for text in item.completions.values())
    assert item.completions[DIRECT] == f"Answer: {item.target}"
    assert len(set(item.completions.values())) == len(item.completions)


@given(families, seeds, splits)
def test_the_grader_takes_every_completion_as_correct(family: str, seed: int, split: Split) -> None:
    item = draw(family, seed, split)
    for text in item.completions.values():
        assert grade(problem_of(item), text, "stop").outcome == "correct"


@given(families, seeds, splits)
def test_the_same_seed_draws_the_same_item(family: str, seed: int, split: Split) -> None:
    assert draw(family, seed, split) == draw(family, seed, split)


@given(families, seeds, splits)
def test_no_text_starts_with_a_name(family: str, seed: int, split: Split) -> None:
    item = draw(family, seed, split)
    for text in (item.question, *item.completions.values()):
        assert text.split(" ")[0] not in WORLD.people


@given(st.integers(100, 999), st.integers(100, 999))
def test_column_sums_spell_the_sum(a: int, b: int) -> None:
    results = re.findall(r"=(\d+)", column_sums(a, b))
    digits = [result[-1] for result in results[:2]]
    assert int(results[2] + digits[1] + digits[0]) == a + b
    for left, result in re.findall(r"(\d(?:\+\d)+)=(\d+)", column_sums(a, b)):
        assert sum(map(int, left.split("+"))) == int(result)


@given(seeds)
def test_add_asks_for_the_sum_of_its_numbers(seed: int) -> None:
    item = draw("add", seed, "test")
    assert sum(map(int, re.findall(r"\d+", item.question))) == int(item.target)


@given(seeds)
def test_compare_asks_for_the_greater_number(seed: int) -> None:
    item = draw("compare", seed, "test")
    numbers = re.findall(r"\d{5}", item.question)
    assert len(numbers) == 2
    assert max(map(int, numbers)) == int(item.target)


@given(seeds)
def test_reverse_asks_for_the_letters_backwards(seed: int) -> None:
    item = draw("reverse", seed, "test")
    assert item.question.endswith(item.target[::-1])


@given(seeds, splits)
def test_composed_answers_follow_from_two_facts(seed: int, split: Split) -> None:
    river, emblem = draw("river", seed, split), draw("emblem", seed, split)
    assert river.target == WORLD.river[WORLD.home[river.key[0]]]
    assert emblem.target == WORLD.emblem[WORLD.craft[emblem.key[0]]]


@given(seeds)
def test_codesum_asks_for_the_sum_of_two_codes(seed: int) -> None:
    item = draw("codesum", seed, "test")
    assert int(item.target) == sum(WORLD.code[person] for person in item.key)


@pytest.mark.parametrize("seed", [0, WORLD_SEED])
def test_a_world_is_its_seed(seed: int) -> None:
    assert build_world(seed) == build_world(seed)
    assert build_world(seed) != build_world(seed + 1)


def test_people_of_the_three_groups_are_different_people() -> None:
    assert len(set(WORLD.people)) == len(WORLD.people)
    assert not set(WORLD.people) & (set(WORLD.river) | set(WORLD.river.values()))
