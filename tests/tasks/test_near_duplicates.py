"""Near-duplicates are found, and templates, passages and other terms are none."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.tasks.comparison import Comparison, compare
from orca2_gen.tasks.matches import NEAR, Match, read_matches
from orca2_gen.tasks.source import TaskSource
from tests.tasks.copying import task_fingerprints
from tests.tasks.reading import published


def here(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(*call) for call in calls]


def near(folder: Path, *sources: TaskSource, held_out: Sequence[TaskSource] = ()) -> list[Match]:
    comparison = Comparison(
        folder=folder,
        trained=tuple(task_fingerprints(folder, source) for source in sources),
        held_out=tuple(task_fingerprints(folder, source) for source in held_out),
        near_list=folder / "near.jsonl",
    )
    found = compare(comparison, here)
    matches = [m for s in sources for m in read_matches(folder / f"{s.name}.matches")]
    assert sum(found.values()) == len(matches)
    listed = [json.loads(line)["problem_id"] for line in (folder / "near.jsonl").open()]
    assert listed == [match.problem_id for match in matches if match.reason == NEAR]
    return matches


def written(path: Path, rows: list[dict[str, Any]], split: str = "train") -> TaskSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TaskSource(name=path.stem, format="jsonl", path=path, split=split)


def changed(text: str, vocabulary: list[str], rng: random.Random) -> str:
    words = text.split(" ")
    plain = [place for place, word in enumerate(words) if word.isalpha()]
    for place in rng.sample(plain, min(len(plain), max(1, len(words) // 10))):
        words[place] = rng.choice(vocabulary)
    return " ".join(words)


def test_planted_near_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [json.loads(line) for line in published("gsm8k_train.jsonl").open()]
    vocabulary = sorted({word for row in rows for word in re.findall("[a-z]+", row["question"])})
    rows = [row | {"id": f"a{place}"} for place, row in enumerate(rows)]
    planted = [
        row | {"id": f"p{row['id']}", "question": changed(row["question"], vocabulary, rng)}
        for row in rng.sample(rows, 500)
    ]
    path = tmp_path / "g.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *planted]))
    matches = near(tmp_path, TaskSource(name="g", format="gsm8k", path=path, split="train"))
    found = {(m.problem_id, m.partner) for m in matches if m.reason == NEAR}
    right = found & {(f"g/train/{row['id']}", f"g/train/{row['id'][1:]}") for row in planted}
    assert len(right) >= 0.95 * len(planted)
    assert len(right) >= 0.95 * len(found)


@pytest.mark.parametrize(
    "name", ["lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-math", "logiqa-en"]
)
def test_questions_about_one_passage_are_no_near_duplicates(tmp_path: Path, name: str) -> None:
    path = published(f"agieval_{name}.jsonl")
    source = TaskSource(name="t", format="agieval", path=path, split="test")
    assert near(tmp_path, source) == []


def test_a_template_with_other_slots_is_no_near_duplicate(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        {
            "question": f"In the town of {rng.choice('ABCDEFGH')}ton lives a "
            f"{rng.choice('abcdefgh')}er who keeps {rng.choice('stuvwxyz')}ows in a barn. Does the "
            "law of the land allow it?",
            "answer": rng.choice(["yes", "no"]),
        }
        for _ in range(400)
    ]
    matches = near(tmp_path, written(tmp_path / "t.jsonl", rows))
    equal = len(rows) - len({(row["question"], row["answer"]) for row in rows})
    assert [match.reason for match in matches] == ["duplicate"] * equal


LONG = (
    "A ferry leaves the northern harbour every morning and carries visitors across the strait to a "
    "small island where a lighthouse keeper sells lamps made of green glass to whoever asks for "
    "one. Is the island reached by a bridge?"
)


def test_a_near_duplicate_of_a_held_out_row_is_reported_with_it(tmp_path: Path) -> None:
    near_copy = LONG.replace("every morning", "each morning").replace("small", "tiny")
    rows = [{"id": "a", "question": near_copy, "answer": "no"}]
    others = [{"id": "b", "question": LONG, "answer": "no"}]
    held = written(tmp_path / "h.jsonl", others, "test")
    [match] = near(tmp_path, written(tmp_path / "t.jsonl", rows), held_out=[held])
    assert (match.problem_id, match.reason, match.partner) == ("t/train/a", NEAR, "h/test/b")
    assert 0.8 < match.similarity < 1
    rows[0]["answer"] = "yes"
    assert near(tmp_path, written(tmp_path / "t.jsonl", rows), held_out=[held]) == []


def test_of_a_chain_of_near_duplicates_every_second_stays(tmp_path: Path) -> None:
    texts = [LONG]
    for old, new in (("every", "each"), ("small", "tiny"), ("green", "red"), ("strait", "sea")):
        texts.append(texts[-1].replace(old, new))
    rows = [{"id": str(n), "question": text, "answer": "no"} for n, text in enumerate(texts)]
    matches = near(tmp_path, written(tmp_path / "t.jsonl", rows))
    removed = {match.problem_id for match in matches}
    assert "t/train/0" not in removed
    assert all(match.partner not in removed for match in matches)
    left = [row for row in rows if f"t/train/{row['id']}" not in removed]
    assert near(tmp_path, written(tmp_path / "t.jsonl", left)) == []


def test_no_rows_have_no_copies(tmp_path: Path) -> None:
    assert near(tmp_path, written(tmp_path / "t.jsonl", [{"question": "", "answer": ""}])) == []
