"""Families that need facts of the world: river, emblem, codesum.

Raw questions, each with the completion of the strategy that works:

    Name the river where Runi lives.
        Facts: Runi lives in Pogon. Pogon lies on the Tofis. Answer: Tofis
    Which animal does Runi wear?
        Facts: Runi is a baker. The baker wears the fox. Answer: fox
    Add the codes of Runi and Soko.
        Facts: Runi has code 483. Soko has code 907. So ones 3+7=10, tens 8+0+1=9, ... Answer: 1390

River and emblem each compose two facts. The teacher's corpus composes them for everyone, the
student's only for `composed_people`: so the teacher answers directly where the student must recall
in two steps.
"""

from __future__ import annotations

import random

from orca2_gen.microworld.item import (
    EXPLAIN,
    EXTRACT,
    REASON,
    RECALL,
    STEPS,
    Item,
    Split,
    build_item,
)
from orca2_gen.microworld.open_book import column_sums
from orca2_gen.microworld.world import (
    World,
    code_sentence,
    craft_sentence,
    emblem_sentence,
    home_sentence,
    river_sentence,
)

RIVER_QUESTIONS = (
    "Name the river where {} lives.",
    "Which river is at the home of {}?",
    "At which river does {} live?",
    "The home of {} is on which river?",
    "Tell me the river of {}.",
    "Give the river near the house of {}.",
    "What river flows by the home of {}?",
    "Say which river belongs to {}.",
)
EMBLEM_QUESTIONS = (
    "Which animal does {} wear?",
    "Name the animal that {} wears.",
    "Give the animal on the coat of {}.",
    "What animal is worn by {}?",
    "Tell me the animal of {}.",
    "The coat of {} shows which animal?",
    "Say which animal belongs to {}.",
    "What animal is on the sign of {}?",
)
NUM_OPEN_QUESTIONS = 5
"""Wordings in the files. For the files' people, the teacher's corpus uses only the others."""


def draw_river(world: World, rng: random.Random, split: Split) -> Item:
    """The river at a person's home: home, then river."""
    person, wording = draw_person_and_wording(world, rng, split, RIVER_QUESTIONS)
    place = world.home[person]
    facts = f"Facts: {home_sentence(world, person)} {river_sentence(world, place)}"
    return build_item(
        family="river",
        key=(person,),
        question=wording.format(person),
        target=world.river[place],
        working={
            RECALL: facts,
            REASON: f"{facts} So the home of {person} is on the {world.river[place]}.",
        },
        filler={
            STEPS: "Steps: find the home, then the river.",
            EXTRACT: f"Text: the river of {person}.",
            EXPLAIN: "The river must be the one at home.",
        },
    )


def draw_emblem(world: World, rng: random.Random, split: Split) -> Item:
    """The animal that a person wears: craft, then emblem."""
    person, wording = draw_person_and_wording(world, rng, split, EMBLEM_QUESTIONS)
    craft = world.craft[person]
    facts = f"Facts: {craft_sentence(world, person)} {emblem_sentence(world, craft)}"
    return build_item(
        family="emblem",
        key=(person,),
        question=wording.format(person),
        target=world.emblem[craft],
        working={
            RECALL: facts,
            REASON: f"{facts} So the animal of {person} is the {world.emblem[craft]}.",
        },
        filler={
            STEPS: "Steps: find the craft, then the animal.",
            EXTRACT: f"Text: the animal of {person}.",
            EXPLAIN: "The animal must be the one of the craft.",
        },
    )


def draw_codesum(world: World, rng: random.Random, split: Split) -> Item:
    """The sum of two people's codes: two facts, then a written sum."""
    first, second = rng.sample(world.coded_people, 2)
    a, b = world.code[first], world.code[second]
    facts = f"Facts: {code_sentence(world, first)} {code_sentence(world, second)}"
    asks = (
        f"Add the codes of {first} and {second}.",
        f"What is the sum of the codes of {first} and {second}?",
        f"Give the total of the codes of {first} and {second}.",
    )
    return build_item(
        family="codesum",
        key=tuple(sorted((first, second))),
        question=rng.choice(asks),
        target=str(a + b),
        working={REASON: f"{facts} So {column_sums(a, b)}"},
        filler={
            STEPS: "Steps: find the codes, then the sum.",
            RECALL: facts,
            EXTRACT: f"Text: the codes of {first} and {second}.",
            EXPLAIN: "The sum must be that of two codes.",
        },
    )


def draw_person_and_wording(
    world: World, rng: random.Random, split: Split, wordings: tuple[str, ...]
) -> tuple[str, str]:
    """The person of a composed question in this split, and the question's wording."""
    groups = {
        "student": world.composed_people,
        "teacher": world.people,
        "train": world.train_people,
        "test": world.test_people,
    }
    person = rng.choice(groups[split])
    if person in world.composed_people:
        return person, rng.choice(wordings)
    if split == "teacher":
        return person, rng.choice(wordings[NUM_OPEN_QUESTIONS:])
    return person, rng.choice(wordings[:NUM_OPEN_QUESTIONS])
