"""The task files that the pipeline reads: tasks/<family>.train.jsonl and tasks/<family>.test.jsonl.

    {"id": "add-train-000", "question": "Compute 343 + 709.", "answer": "1052"}

`python -m orca2_gen.microworld.task_files` writes them again, byte for byte.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from orca2_gen.microworld.families import FAMILIES, draw_unseen, item_id
from orca2_gen.microworld.item import Item, Split
from orca2_gen.microworld.world import WORLD_SEED, World, build_world

TASKS_DIR = Path(__file__).with_name("tasks")
NUM_TRAIN, NUM_TEST = 250, 200


def draw_task_items(world: World, seed: int = WORLD_SEED) -> dict[tuple[str, Split], list[Item]]:
    """The items of every file, by family and split; no two of a family are the same problem."""
    items: dict[tuple[str, Split], list[Item]] = {}
    for family in FAMILIES:
        rng = random.Random(f"tasks {seed} {family}")
        seen: set[tuple[str, ...]] = set()
        splits: tuple[tuple[Split, int], ...] = (("train", NUM_TRAIN), ("test", NUM_TEST))
        for split, count in splits:
            items[family, split] = []
            for _ in range(count):
                item = draw_unseen(family, world, rng, split, seen)
                seen.add(item_id(item))
                items[family, split].append(item)
    return items


def held_out_ids(
    items: dict[tuple[str, Split], list[Item]],
) -> dict[str, frozenset[tuple[str, ...]]]:
    """Family -> ids of all items in its files, which no corpus may hold."""
    return {
        family: frozenset(
            item_id(item) for split in ("train", "test") for item in items[family, split]
        )
        for family in FAMILIES
    }


def task_lines(family: str, split: Split, items: list[Item]) -> str:
    """The text of one task file."""
    rows = [
        {"id": f"{family}-{split}-{index:03d}", "question": item.question, "answer": item.target}
        for index, item in enumerate(items)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_task_files(directory: Path = TASKS_DIR) -> list[Path]:
    """The paths of the task files that it writes."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for (family, split), items in draw_task_items(build_world()).items():
        path = directory / f"{family}.{split}.jsonl"
        path.write_text(task_lines(family, split, items), encoding="ascii")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write_task_files():
        print(written.name)
