"""The committed task files, compared with the world and with each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.microworld.families import FAMILIES, item_id
from orca2_gen.microworld.item import Split
from orca2_gen.microworld.task_files import (
    NUM_TEST,
    NUM_TRAIN,
    TASKS_DIR,
    draw_task_items,
    write_task_files,
)
from orca2_gen.microworld.world import build_world

WORLD = build_world()
ITEMS = draw_task_items(WORLD)
SPLITS: tuple[Split, ...] = ("train", "test")


def read_rows(family: str, split: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (TASKS_DIR / f"{family}.{split}.jsonl").read_text().splitlines()
    ]


def test_the_files_regenerate_byte_for_byte(tmp_path: Path) -> None:
    written = write_task_files(tmp_path)
    assert {path.name for path in written} == {path.name for path in TASKS_DIR.glob("*.jsonl")}
    for path in written:
        assert path.read_bytes() == (TASKS_DIR / path.name).read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_train_and_test_share_no_problem(family: str) -> None:
    train, test = ({item_id(item) for item in ITEMS[family, split]} for split in SPLITS)
    assert (len(train), len(test)) == (NUM_TRAIN, NUM_TEST)
    assert not train & test


@pytest.mark.parametrize(
    "family", [name for name, family in FAMILIES.items() if family.is_composed]
)
def test_composed_questions_of_train_and_test_are_about_different_people(family: str) -> None:
    train, test = ({item.key for item in ITEMS[family, split]} for split in SPLITS)
    assert not train & test
    assert not (train | test) & {(person,) for person in WORLD.composed_people}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_rows_hold_id_question_and_answer(family: str, split: Split) -> None:
    rows = read_rows(family, split)
    assert len({row["id"] for row in rows}) == len(rows)
    for row, item in zip(rows, ITEMS[family, split], strict=True):
        assert (row["question"], row["answer"]) == (item.question, item.target)
        assert set(row) == {"id", "question", "answer"}
