"""Held-out questions are found under other names; templates and other questions stay."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.microworld.families import FAMILIES
from orca2_gen.records import Problem
from orca2_gen.tasks.copies import copies
from orca2_gen.tasks.matches import CONTAMINATED
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from tests.tasks.copying import found_partners, problem, task_fingerprints
from tests.tasks.reading import published

NAMES = ["Zora", "Quill", "Xanthe", "Bodhi", "Ravi", "Mei", "Olu", "Priya", "Sven", "Ines", "Kofi"]
MICROWORLD = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "tasks"
Change = Callable[[str, random.Random], str]


def renamed(text: str, rng: random.Random, names: list[str] = NAMES) -> str:
    """The text with another name for each word with a capital that does not begin a sentence."""
    inside = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", text)) - {"I"}
    new = {name: rng.choice(names) for name in sorted(inside)}
    return re.sub(r"\b[A-Z][a-z]+\b", lambda found: new.get(found[0], found[0]), text)


CHANGES: dict[str, Change] = {
    "case": lambda text, rng: rng.choice([str.upper, str.lower, str.title])(text),
    "names": renamed,
    "longer names": lambda text, rng: renamed(text, rng, ["Mary Ann", "Jo", "Mr. van Stone"]),
    "names and case": lambda text, rng: rng.choice([str.upper, str.lower])(renamed(text, rng)),
    "spaces": lambda text, rng: text.replace(" ", rng.choice(["  ", "\n", "\u00a0"])),
    "full width": lambda text, rng: "".join(
        chr(ord(letter) + 0xFEE0) if letter.isalnum() and letter.isascii() else letter
        for letter in text
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_test_file_of_gsm8k_is_found_whole_among_its_training_rows(
    tmp_path: Path, change: str
) -> None:
    rng = random.Random(7)
    trained = [json.loads(line) for line in published("gsm8k_train.jsonl").open()]
    test = published("gsm8k_test.jsonl")
    hidden = [json.loads(line) for line in test.open()]
    rows = [row | {"id": f"own-{place}"} for place, row in enumerate(trained)]
    rows += [
        row | {"id": f"hidden-{place}", "question": CHANGES[change](row["question"], rng)}
        for place, row in enumerate(hidden)
    ]
    rng.shuffle(rows)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = TaskSource(name="g", format="gsm8k", path=path, split="train")
    task = task_fingerprints(tmp_path, source)
    held = TaskSource(name="g", format="gsm8k", path=test, split="test")
    found = copies([task], [task_fingerprints(tmp_path, held)])
    ids = task.table(["problem_id"])["problem_id"].to_pylist()
    wanted = {f"g/train/hidden-{place}" for place in range(len(hidden))}
    least = 0.99 if change == "longer names" else 1  # a name may be a word of the text as well
    assert {ids[each.row] for each in found} <= wanted
    assert len(found) >= least * len(wanted)
    assert {each.reason for each in found} == {CONTAMINATED}


QUESTION = (
    "Will and Emily share a flat. If Will pays $40 of the rent and will pay twice as much next "
    "year, how much will he pay to Emily's landlord then?"
)


@pytest.mark.parametrize(
    "other",
    [
        QUESTION.replace("Will", "Mary Ann").replace(" he ", " she "),
        QUESTION.replace("Emily", "Mr. Stone").upper(),
        QUESTION.replace("Will", "Emil").replace("Emily", "Emil"),
        QUESTION.replace("Will", "Jo").replace("$40", "$40.00").lower(),
    ],
)
def test_a_question_with_other_names_is_the_same_question(other: str) -> None:
    held = problem("t/test/1", QUESTION, "80")
    assert found_partners({"t": [problem("t/train/1", other, "80")]}, {"t": [held]}) == {
        "t/train/1": (CONTAMINATED, "t/test/1")
    }


@pytest.mark.parametrize(
    ("other", "gold"),
    [
        (QUESTION.replace("40", "50"), "80"),
        (QUESTION.replace("Emily", "Ann"), "81"),
        (QUESTION.replace("twice", "half"), "80"),
        (QUESTION.replace("Emily's landlord", "Ann's landlord"), "80"),
        (QUESTION.replace("Will pays", "Tom pays"), "80"),
    ],
    ids=["number", "gold", "word", "one place of a name", "one place of another"],
)
def test_a_question_with_another_number_gold_word_or_person_stays(other: str, gold: str) -> None:
    held = problem("t/test/1", QUESTION, "80")
    assert found_partners({"t": [problem("t/train/1", other, gold)]}, {"t": [held]}) == {}


def templated(split: str, seed: int) -> list[Problem]:
    rng = random.Random(seed)
    rows = []
    for place in range(300):
        name, thing = rng.choice(NAMES), rng.choice(["apples", "pears", "plums", "figs"])
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        question = (
            f"{name} has {a} {thing} and buys {b} more {thing} on the market. "
            f"How many {thing} does {name} have now?"
        )
        rows.append(problem(f"t/{split}/{place}", question, str(a + b)))
    return rows


def test_a_template_loses_only_rows_that_are_equal() -> None:
    trained, held = templated("train", 1), templated("test", 2)
    found = found_partners({"t": trained}, {"t": held})
    equal = {(row.question, row.target) for row in held}
    contaminated = {own for own, (reason, _) in found.items() if reason == CONTAMINATED}
    assert contaminated == {
        row.problem_id for row in trained if (row.question, row.target) in equal
    }


def test_a_short_question_about_another_name_stays() -> None:
    asked, held = (
        [
            problem(f"t/{split}/{place}", f"At which river does {name}{end} live?", "Tofis")
            for place, name in enumerate(NAMES[:5])
        ]
        for split, end in (("train", "o"), ("test", ""))
    )
    assert found_partners({"t": asked}, {"t": held}) == {}


def test_a_passage_with_another_question_stays() -> None:
    passage = "The Tofis rises in the hills above Pogon and reaches the sea at Mevat in the west. "
    held = problem("t/test/1", passage + "Does the river pass a town before Mevat?", "yes")
    other = problem("t/train/1", passage + "Is the mouth of the river in the west?", "yes")
    assert found_partners({"t": [other]}, {"t": [held]}) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tasks_of_the_microworld_lose_no_row(tmp_path: Path, family: str) -> None:
    sources = [
        TaskSource(
            name=family, format="jsonl", path=MICROWORLD / f"{family}.{split}.jsonl", split=split
        )
        for split in ("train", "test")
    ]
    trained, held = (task_fingerprints(tmp_path, source) for source in sources)
    assert sum(isinstance(row, Problem) for row in read_task(sources[0]).rows) == 250
    assert copies([trained], [held]) == []
