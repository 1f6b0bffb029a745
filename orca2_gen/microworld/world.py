"""The world that the models know: people, places, crafts and facts about them, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

WORLD_SEED = 20
"""The seed of the shipped task files, corpora and models."""

NUM_COMPOSED_PEOPLE, NUM_TRAIN_PEOPLE, NUM_TEST_PEOPLE = 40, 50, 50
NUM_DIRECT_PEOPLE = 10
NUM_CODED = 70
NUM_PLACES = 20

_CONSONANTS = "bdfgjklmnprstvz"
_VOWELS = "aeiou"
_LAST_VOWELS = (
    "aiou"  # no closing e, so that no name is an English word that questions use (Give, Time)
)

CRAFTS = (
    "baker", "weaver", "smith", "potter", "tanner", "mason", "cooper", "brewer",
    "miller", "tailor", "cobbler", "fisher", "hunter", "dyer", "glazier", "roofer",
    "carver", "printer", "joiner", "hatter",
)  # fmt: skip
EMBLEMS = (
    "fox", "bear", "wolf", "hare", "swan", "crow", "lion", "bull",
    "goat", "hawk", "trout", "bee", "stag", "boar", "toad", "seal",
    "lark", "horse", "whale", "snake",
)  # fmt: skip
THINGS = (
    "cup",
    "key",
    "drum",
    "lamp",
    "rope",
    "bell",
    "coin",
    "book",
    "ring",
    "comb",
    "flute",
    "knife",
)
ROOMS = (
    "barn",
    "cellar",
    "tower",
    "shed",
    "kitchen",
    "garden",
    "stable",
    "chapel",
    "loft",
    "well",
    "hall",
    "mill",
)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The people and the facts about them. Single facts are in both corpora, for everyone."""

    composed_people: tuple[str, ...]
    """People whose two-hop questions are in both corpora."""
    train_people: tuple[str, ...]
    """People whose two-hop questions are only in the teacher's corpus and in the train files."""
    test_people: tuple[str, ...]
    """People whose two-hop questions are only in the teacher's corpus and in the test files."""
    coded_people: tuple[str, ...]
    home: dict[str, str]
    """Person -> place."""
    river: dict[str, str]
    """Place -> river."""
    craft: dict[str, str]
    """Person -> craft."""
    emblem: dict[str, str]
    """Craft -> emblem."""
    code: dict[str, int]
    """Coded person -> a three-digit number."""

    @property
    def direct_people(self) -> tuple[str, ...]:
        """The few `composed_people` whose composed facts the student's corpus states directly."""
        # With forty of them the student learned to compose in one pass for most people (LOG.md).
        return self.composed_people[:NUM_DIRECT_PEOPLE]

    @property
    def people(self) -> tuple[str, ...]:
        """Everyone."""
        return self.composed_people + self.train_people + self.test_people

    def fact_sentences(self) -> tuple[str, ...]:
        """Every one-hop fact, in the words of the worked texts."""
        homes = tuple(home_sentence(self, person) for person in self.home)
        rivers = tuple(river_sentence(self, place) for place in self.river)
        crafts = tuple(craft_sentence(self, person) for person in self.craft)
        emblems = tuple(emblem_sentence(self, craft) for craft in self.emblem)
        codes = tuple(code_sentence(self, person) for person in self.code)
        return homes + rivers + crafts + emblems + codes

    def composed_sentences(self, people: tuple[str, ...]) -> tuple[str, ...]:
        """The composed facts of these people: `The river of Runi is the Tofis.`"""
        rivers = tuple(
            f"The river of {person} is the {self.river[self.home[person]]}." for person in people
        )
        animals = tuple(
            f"The animal of {person} is the {self.emblem[self.craft[person]]}." for person in people
        )
        return rivers + animals


def build_world(seed: int = WORLD_SEED) -> World:
    """The World of a seed; the same seed gives the same world."""
    rng = random.Random(f"world {seed}")
    names = _names(rng, NUM_COMPOSED_PEOPLE + NUM_TRAIN_PEOPLE + NUM_TEST_PEOPLE, closing="")
    places = _names(rng, NUM_PLACES, closing="nrl")
    rivers = _names(rng, NUM_PLACES, closing="st")
    coded = tuple(sorted(rng.sample(names, NUM_CODED)))
    codes = rng.sample(range(100, 1000), NUM_CODED)
    return World(
        composed_people=tuple(names[:NUM_COMPOSED_PEOPLE]),
        train_people=tuple(names[NUM_COMPOSED_PEOPLE:-NUM_TEST_PEOPLE]),
        test_people=tuple(names[-NUM_TEST_PEOPLE:]),
        coded_people=coded,
        home=_spread(rng, names, places),
        river=dict(zip(places, rivers, strict=True)),
        craft=_spread(rng, names, CRAFTS),
        emblem=dict(zip(CRAFTS, rng.sample(EMBLEMS, len(EMBLEMS)), strict=True)),
        code=dict(zip(coded, codes, strict=True)),
    )


def home_sentence(world: World, person: str) -> str:
    """`Runi lives in Pogon.`"""
    return f"{person} lives in {world.home[person]}."


def river_sentence(world: World, place: str) -> str:
    """`Pogon lies on the Tofis.`"""
    return f"{place} lies on the {world.river[place]}."


def craft_sentence(world: World, person: str) -> str:
    """`Runi is a baker.`"""
    return f"{person} is a {world.craft[person]}."


def emblem_sentence(world: World, craft: str) -> str:
    """`The baker wears the fox.`"""
    return f"The {craft} wears the {world.emblem[craft]}."


def code_sentence(world: World, person: str) -> str:
    """`Runi has code 483.`"""
    return f"{person} has code {world.code[person]}."


def _names(rng: random.Random, count: int, closing: str) -> list[str]:
    """Distinct made-up names: two syllables, and a consonant that distinguishes kinds of names."""
    names: dict[str, None] = {}
    while len(names) < count:
        opening = rng.choice(_CONSONANTS) + rng.choice(_VOWELS)
        ending = rng.choice(_CONSONANTS) + rng.choice(_LAST_VOWELS)
        names[(opening + ending).capitalize() + (rng.choice(closing) if closing else "")] = None
    return list(names)


def _spread(
    rng: random.Random, owners: list[str], values: list[str] | tuple[str, ...]
) -> dict[str, str]:
    """Owner -> value, all values equally often, so that no answer is a better guess."""
    repeated = [values[i % len(values)] for i in range(len(owners))]
    rng.shuffle(repeated)
    return dict(zip(owners, repeated, strict=True))
