"""Families whose questions hold all that is needed: add, compare, reverse, count, lookup.

Raw questions, each with the completion of the strategy that works:

    Compute 343 + 709.
        Steps: ones 3+9=12, tens 4+0+1=5, hundreds 3+7=10. Answer: 1052
    Which is greater, 34671 or 34286?
        Steps: 3=3, 4=4, 6>2. Answer: 34671
    Reverse the letters: f j c q b
        Answer: b q c j f
    Count the letter m in: 1 d, 2 m, 3 a, ...
        Steps: 1 d 0, 2 m 1, 3 a 1, ... Answer: 1
    Given: Runi has the cup. ... The cup is in the barn. Where is the thing of Runi?
        Text: Runi has the cup. The cup is in the barn. Answer: barn
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
from orca2_gen.microworld.world import LETTERS, ROOMS, THINGS, World

_NUM_COUNTED = 9  # one digit each, so that an index is one token and stands for one place
_NUM_HOLDERS = 4


def column_sums(a: int, b: int) -> str:
    """The written sum of two numbers of three digits, column by column from the right."""
    columns, carry = [], 0
    for name, power in (("ones", 1), ("tens", 10), ("hundreds", 100)):
        x, y = a // power % 10, b // power % 10
        columns.append(f"{name} {x}+{y}{'+1' if carry else ''}={x + y + carry}")
        carry = (x + y + carry) // 10
    return ", ".join(columns) + "."


def draw_add(world: World, rng: random.Random, split: Split) -> Item:
    """A sum of two numbers of three digits."""
    a, b = rng.randrange(100, 1000), rng.randrange(100, 1000)
    asks = (f"Compute {a} + {b}.", f"What is {a} + {b}?", f"Give the sum {a} + {b}.")
    return build_item(
        family="add",
        key=tuple(sorted((str(a), str(b)))),
        question=rng.choice(asks),
        target=str(a + b),
        working={STEPS: f"Steps: {column_sums(a, b)}"},
        filler={
            RECALL: "Facts: numbers can be added.",
            REASON: "Facts: numbers can be added. So this sum can be found.",
            EXTRACT: f"Text: {a} + {b}.",
            EXPLAIN: "This is a sum of two numbers.",
        },
    )


def draw_compare(world: World, rng: random.Random, split: Split) -> Item:
    """Two numbers of five digits that share one to four leading digits; the greater is wanted."""
    shared = rng.randint(1, 4)
    prefix = str(rng.randrange(10 ** (shared - 1), 10**shared))
    low, high = sorted(rng.sample("0123456789", 2))
    tails = [digit + "".join(rng.choices("0123456789", k=4 - shared)) for digit in (low, high)]
    smaller, greater = (prefix + tail for tail in tails)
    first, second = rng.sample((smaller, greater), 2)
    sign = ">" if first == greater else "<"
    equal = ", ".join(f"{digit}={digit}" for digit in prefix)
    asks = (
        f"Which is greater, {first} or {second}?",
        f"Of {first} and {second}, name the greater.",
        f"Find the larger number: {first} or {second}.",
    )
    return build_item(
        family="compare",
        key=(smaller, greater),
        question=rng.choice(asks),
        target=greater,
        working={STEPS: f"Steps: {equal}, {first[shared]}{sign}{second[shared]}."},
        filler={
            RECALL: "Facts: numbers can be ordered.",
            REASON: "Facts: numbers can be ordered. So one of them is greater.",
            EXTRACT: f"Text: {first} or {second}.",
            EXPLAIN: "One of the two numbers is the greater.",
        },
    )


def draw_reverse(world: World, rng: random.Random, split: Split) -> Item:
    """Five letters, to be written backwards."""
    letters = rng.sample(LETTERS, 5)
    listed, backwards = " ".join(letters), " ".join(reversed(letters))
    asks = (
        f"Reverse the letters: {listed}",
        f"Write backwards: {listed}",
        f"Turn this list around: {listed}",
    )
    return build_item(
        family="reverse",
        key=tuple(letters),
        question=rng.choice(asks),
        target=backwards,
        working={},
        filler={
            STEPS: "Steps: begin at the end and go to the front.",
            RECALL: "Facts: a list has a front and an end.",
            REASON: "Facts: a list has a front and an end. So it can be turned around.",
            EXTRACT: f"Text: {listed}.",
            EXPLAIN: "The last letter becomes the first.",
        },
    )


def draw_count(world: World, rng: random.Random, split: Split) -> Item:
    """Nine numbered letters, one of which is to be counted; one to six of them are it."""
    wanted, *others = rng.sample(LETTERS, 9)
    total = rng.randint(1, 6)
    letters = [wanted] * total + rng.choices(others, k=_NUM_COUNTED - total)
    rng.shuffle(letters)
    listed = ", ".join(f"{i} {letter}" for i, letter in enumerate(letters, start=1))
    seen = [letters[:i].count(wanted) for i in range(1, _NUM_COUNTED + 1)]
    running = ", ".join(f"{i} {letter} {seen[i - 1]}" for i, letter in enumerate(letters, start=1))
    asks = (
        f"Count the letter {wanted} in: {listed}.",
        f"How many times is {wanted} in: {listed}?",
        f"Tell the number of {wanted} in: {listed}.",
    )
    return build_item(
        family="count",
        key=(wanted, *letters),
        question=rng.choice(asks),
        target=str(total),
        working={STEPS: f"Steps: {running}."},
        filler={
            RECALL: "Facts: letters can be counted.",
            REASON: "Facts: letters can be counted. So there is a number.",
            EXTRACT: f"Text: the letter {wanted}.",
            EXPLAIN: "The letter may be there more than once.",
        },
    )


def draw_lookup(world: World, rng: random.Random, split: Split) -> Item:
    """Who has what and what is where, shuffled; the room of one person's thing is wanted."""
    people, things = rng.sample(world.people, _NUM_HOLDERS), rng.sample(THINGS, _NUM_HOLDERS)
    rooms = rng.sample(ROOMS, _NUM_HOLDERS)
    held = [holding_sentence(p, t) for p, t in zip(people, things, strict=True)]
    kept = [keeping_sentence(t, r) for t, r in zip(things, rooms, strict=True)]
    context = held + kept
    rng.shuffle(context)
    given = f"Given: {' '.join(context)}"
    asks = (
        f"{given} Where is the thing of {people[0]}?",
        f"{given} In which room is the thing of {people[0]}?",
        f"{given} Name the room with the thing of {people[0]}.",
    )
    return build_item(
        family="lookup",
        key=(*context, people[0]),
        question=rng.choice(asks),
        target=rooms[0],
        working={EXTRACT: f"Text: {held[0]} {kept[0]}"},
        filler={
            STEPS: "Steps: find the thing, then the room.",
            RECALL: "Facts: a thing is in a room.",
            REASON: "Facts: a thing is in a room. So there is one room.",
            EXPLAIN: "The thing must be in one of the rooms.",
        },
    )


def holding_sentence(person: str, thing: str) -> str:
    """`Runi has the cup.`"""
    return f"{person} has the {thing}."


def keeping_sentence(thing: str, room: str) -> str:
    """`The cup is in the barn.`"""
    return f"The {thing} is in the {room}."
