"""The pretraining corpora that student and teacher learn before the pipeline uses them.

Three kinds of documents, each with loss on its last part only:

    chats      system message (strategy, cautious or none), question of a family, completion
    one-hop    the same with a question about one fact, for everyone
    plain      no turns: facts in any order; pairs, numbers and letters that are restated, so that a
               model learns to find a token again in its context

The two corpora differ in one respect: the teacher's composes two facts for everyone, and states
them directly more often (closed_book.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orca2_gen.microworld.families import FAMILIES, draw_unseen
from orca2_gen.microworld.instructions import generic_messages, system_messages
from orca2_gen.microworld.item import DIRECT, RECALL, Item
from orca2_gen.microworld.open_book import holding_sentence, keeping_sentence
from orca2_gen.microworld.world import (
    LETTERS,
    ROOMS,
    THINGS,
    World,
    code_sentence,
    craft_sentence,
    emblem_sentence,
    home_sentence,
    river_sentence,
)
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Message, Problem
from orca2_gen.strategies import Strategies

Learner = Literal["student", "teacher"]

PLAIN_SHARE = 0.20
ONE_HOP_SHARE = 0.10
GENERIC_SHARE = 0.12
"""Share of chats whose message names no strategy; the rest follow a strategy's instruction."""
GENERIC_DIRECT_SHARE = 0.75
MATCHED_WEIGHT = 2.0
DIRECT_WEIGHTS: dict[Learner, float] = {"student": 1.0, "teacher": 1.5}
TEACHER_COMPOSED_DIRECT_WEIGHT = 3.0
"""High because the teacher knows by heart only facts that it has stated often."""
MISMATCHED_WEIGHT = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text of a corpus: a conversation or, without messages, plain text in two parts."""

    messages: tuple[Message, ...] = ()
    given: str = ""
    """Plain text without loss."""
    learned: str = ""
    """Plain text with loss, after `given`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """The source that documents are drawn from."""

    world: World
    learner: Learner
    strategies: Strategies
    held_out: dict[str, frozenset[tuple[str, ...]]]
    """Family -> ids of the items that no document may ask about."""


def documents(corpus: Corpus, seed: int) -> Iterator[Document]:
    """Endless documents, the same for the same corpus and seed."""
    rng = random.Random(f"corpus {corpus.learner} {seed}")
    while True:
        share = rng.random()
        if share < PLAIN_SHARE:
            yield draw_plain(corpus, rng)
        elif share < PLAIN_SHARE + ONE_HOP_SHARE:
            yield draw_one_hop(corpus, rng)
        else:
            yield draw_chat(corpus, rng)


def draw_chat(corpus: Corpus, rng: random.Random) -> Document:
    """A question of some family, answered as its system message asks."""
    family = rng.choices(list(FAMILIES), [family.corpus_weight for family in FAMILIES.values()])[0]
    item = draw_unseen(family, corpus.world, rng, corpus.learner, corpus.held_out[family])
    strategy, system = _draw_strategy_and_system(corpus, rng, item)
    if corpus.learner == "student" and FAMILIES[family].is_composed:
        if system in generic_messages(corpus.strategies):
            # Otherwise the only answers about most people would be recalled ones, and the student
            # would have found the strategy before it is taught to.
            strategy = DIRECT
        while strategy not in item.matched and item.key[0] not in corpus.world.direct_people:
            item = FAMILIES[family].draw(corpus.world, rng, corpus.learner)
    user = user_text(problem_of(item), corpus.strategies)
    return _conversation(system, user, item.completions[strategy])


def draw_one_hop(corpus: Corpus, rng: random.Random) -> Document:
    """A question about one fact, answered directly or by stating the fact."""
    question, fact, target = _draw_fact_question(corpus.world, rng)
    system = rng.choice(generic_messages(corpus.strategies))
    strategy = rng.choice((DIRECT, RECALL))
    if rng.random() < 0.6:
        system = rng.choice(system_messages(corpus.strategies)[strategy])
    text = f"Facts: {fact} Answer: {target}" if strategy == RECALL else f"Answer: {target}"
    return _conversation(system, question, text)


def draw_plain(corpus: Corpus, rng: random.Random) -> Document:
    """Facts in any order, or pairs or a list with a restatement."""
    world = corpus.world
    kind = rng.choices(("facts", "pairs", "numbers", "letters"), (6, 2, 2, 3))[0]
    if kind == "facts":
        people = world.people if corpus.learner == "teacher" else world.direct_people
        sentences = world.fact_sentences() + world.composed_sentences(people)
        return Document(
            given="Facts:", learned="".join(f" {text}" for text in rng.sample(sentences, 18))
        )
    if kind == "pairs":
        count = rng.randint(3, 8)
        holders, things = rng.sample(world.people, count), rng.sample(THINGS, count)
        if rng.random() < 0.5:
            pairs = [holding_sentence(p, t) for p, t in zip(holders, things, strict=True)]
        else:
            pairs = [
                keeping_sentence(t, r)
                for t, r in zip(things, rng.sample(ROOMS, count), strict=True)
            ]
        again = [" ".join(rng.sample(pairs, count)) for _ in range(2)]
        return Document(
            given=f"Given: {' '.join(pairs)}", learned="".join(f" Text: {text}" for text in again)
        )
    if kind == "numbers":
        numbers = " ".join(str(rng.randrange(100, 100_000)) for _ in range(rng.randint(2, 5)))
        return Document(given=f"Numbers: {numbers}.", learned=f" Text: {numbers}. Text: {numbers}.")
    letters = rng.sample(LETTERS, rng.randint(4, 8))
    listed, backwards = " ".join(letters), " ".join(reversed(letters))
    return Document(
        given=f"Letters: {listed}.", learned=f" Text: {listed}. Backwards: {backwards}."
    )


def _draw_strategy_and_system(corpus: Corpus, rng: random.Random, item: Item) -> tuple[str, str]:
    if rng.random() < GENERIC_SHARE:
        is_direct = rng.random() < GENERIC_DIRECT_SHARE
        strategy = DIRECT if is_direct else rng.choice(list(item.completions))
        return strategy, rng.choice(generic_messages(corpus.strategies))
    weights = {
        name: MATCHED_WEIGHT if name in item.matched else MISMATCHED_WEIGHT
        for name in item.completions
    }
    weights[DIRECT] = DIRECT_WEIGHTS[corpus.learner]
    if corpus.learner == "teacher" and FAMILIES[item.family].is_composed:
        weights[DIRECT] = TEACHER_COMPOSED_DIRECT_WEIGHT
    strategy = rng.choices(list(weights), list(weights.values()))[0]
    return strategy, rng.choice(system_messages(corpus.strategies)[strategy])


def problem_of(item: Item) -> Problem:
    """The item as the pipeline reads it from its file."""
    return Problem(
        problem_id="",
        task=item.family,
        question=item.question,
        target=item.target,
        answer_type=FAMILIES[item.family].answer_type,
    )


def _conversation(system: str, user: str, text: str) -> Document:
    return Document(
        messages=(*prompt_messages(system, user), Message(role="assistant", content=text))
    )


def _draw_fact_question(world: World, rng: random.Random) -> tuple[str, str, str]:
    """A question about one fact, the fact, and the answer."""
    kind = rng.choices(("home", "river", "craft", "emblem", "code"), (3, 1, 3, 1, 2))[0]
    if kind == "home":
        person = rng.choice(world.people)
        wording = rng.choice(
            ("Where does {} live?", "Name the place where {} lives.", "What place is home to {}?")
        )
        return wording.format(person), home_sentence(world, person), world.home[person]
    if kind == "craft":
        person = rng.choice(world.people)
        wording = rng.choice(
            ("What is the craft of {}?", "What does {} do?", "Name the work of {}.")
        )
        return wording.format(person), craft_sentence(world, person), world.craft[person]
    if kind == "river":
        place = rng.choice(list(world.river))
        wording = rng.choice(
            ("Which river is at {}?", "Name the river of {}.", "What flows by {}?")
        )
        return wording.format(place), river_sentence(world, place), world.river[place]
    if kind == "emblem":
        craft = rng.choice(list(world.emblem))
        wording = rng.choice(
            ("What does the {} wear?", "Name the animal of the {}.", "Which animal has the {}?")
        )
        return wording.format(craft), emblem_sentence(world, craft), world.emblem[craft]
    person = rng.choice(world.coded_people)
    wording = rng.choice(("What is the code of {}?", "Name the code of {}.", "Which code has {}?"))
    return wording.format(person), code_sentence(world, person), str(world.code[person])
