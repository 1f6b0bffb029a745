"""Families whose questions hold everything needed for the answer: add, compare, reverse.

Raw questions, each with the completion of the strategy that works:

    Compute 343 + 709.
        Steps: ones 3+9=12, tens 4+0+1=5, hundreds 3+7=10. Answer: 1052
    Which is greater, 34671 or 34286?
        Steps: 3=3, 4=4, 6>2. Answer: 34671
    Reverse the letters: f j c q b
        Answer: b q c j f
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
from orca2_gen.microworld.world import LETTERS, World


def column_sums(a: int, b: int) -> str:
    """The written sum of two three-digit numbers, column by column from the right."""
    columns, carry = [], 0
    for name, power in (("ones", 1), ("tens", 10), ("hundreds", 100)):
        x, y = a // power % 10, b // power % 10
        columns.append(f"{name} {x}+{y}{'+1' if carry else ''}={x + y + carry}")
        carry = (x + y + carry) // 10
    return ", ".join(columns) + "."


def draw_add(world: World, rng: random.Random, split: Split) -> Item:
    """A sum of two three-digit numbers."""
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
    """The greater of two five-digit numbers that share one to four leading digits."""
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
    """Five letters to write backwards."""
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


def holding_sentence(person: str, thing: str) -> str:
    """`Runi has the cup.`"""
    return f"{person} has the {thing}."


def keeping_sentence(thing: str, room: str) -> str:
    """`The cup is in the barn.`"""
    return f"The {thing} is in the {room}."
