"""The pretraining corpora."""

from __future__ import annotations

import itertools

import pytest

from orca2_gen.microworld.corpus import Corpus, Learner, documents, problem_of
from orca2_gen.microworld.families import FAMILIES
from orca2_gen.microworld.instructions import (
    generic_messages,
    microworld_strategies,
    system_messages,
)
from orca2_gen.microworld.task_files import draw_task_items, held_out_ids
from orca2_gen.microworld.world import build_world
from orca2_gen.prompts import user_text
from tests.conftest import STRATEGY_NAMES

WORLD = build_world()
ITEMS = draw_task_items(WORLD)
STRATEGIES = microworld_strategies()
NUM_DOCUMENTS = 20_000
LEARNERS: tuple[Learner, ...] = ("student", "teacher")


def corpus_of(learner: Learner) -> Corpus:
    return Corpus(world=WORLD, learner=learner, strategies=STRATEGIES, held_out=held_out_ids(ITEMS))


@pytest.fixture(scope="module", params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Learner:
    return request.param


@pytest.fixture(scope="module")
def corpus_questions(learner: Learner) -> set[str]:
    drawn = itertools.islice(documents(corpus_of(learner), seed=3), NUM_DOCUMENTS)
    return {d.messages[-2].content for d in drawn if d.messages}


def test_no_question_of_the_task_files_is_in_a_corpus(corpus_questions: set[str]) -> None:
    in_files = {
        user_text(problem_of(item), STRATEGIES) for items in ITEMS.values() for item in items
    }
    assert not in_files & corpus_questions


def test_the_student_never_composes_facts_about_people_of_the_files() -> None:
    people = {*WORLD.train_people, *WORLD.test_people}
    composed = {family.draw.__name__ for family in FAMILIES.values() if family.is_composed}
    assert composed == {"draw_river", "draw_emblem"}
    answers = {*WORLD.river.values(), *WORLD.emblem.values()}
    for document in itertools.islice(documents(corpus_of("student"), seed=4), NUM_DOCUMENTS):
        for sentence in document.learned.split(". "):
            words = sentence.rstrip(".").split()
            assert not (people & set(words) and answers & set(words)), sentence
        if document.messages and people & set(document.messages[-2].content.rstrip("?.").split()):
            assert document.messages[-1].content.split()[-1] not in answers


def test_under_a_generic_message_the_student_only_ever_composes_directly() -> None:
    """Else it would have found the strategy before it is taught to."""
    generic = set(generic_messages(STRATEGIES))
    answers = {*WORLD.river.values(), *WORLD.emblem.values()}
    composed = 0
    for document in itertools.islice(documents(corpus_of("student"), seed=4), NUM_DOCUMENTS):
        if not document.messages:
            continue
        system = document.messages[0].content if document.messages[0].role == "system" else ""
        question, text = (message.content for message in document.messages[-2:])
        people = set(WORLD.people) & set(question.rstrip("?.").split())
        if system in generic and people and text.split()[-1] in answers:
            assert people <= set(WORLD.direct_people) and text.startswith("Answer: ")
            composed += 1
    assert composed > 50


def test_the_teacher_composes_facts_about_everyone() -> None:
    drawn = itertools.islice(documents(corpus_of("teacher"), seed=3), NUM_DOCUMENTS)
    questions = {d.messages[-2].content for d in drawn if d.messages}
    rivers = [question for question in questions if "river" in question]
    words = {word for question in rivers for word in question.rstrip("?.").split()}
    assert words >= set(WORLD.people)


def test_the_same_seed_gives_the_same_documents(learner: Learner) -> None:
    first, again = (list(itertools.islice(documents(corpus_of(learner), 5), 500)) for _ in range(2))
    other = list(itertools.islice(documents(corpus_of(learner), 6), 500))
    assert first == again != other


def test_every_system_message_of_the_pipeline_is_in_the_corpus(learner: Learner) -> None:
    drawn = itertools.islice(documents(corpus_of(learner), seed=7), 5_000)
    systems = {d.messages[0].content if len(d.messages) == 3 else "" for d in drawn if d.messages}
    assert systems >= {*STRATEGIES.instructions.values(), STRATEGIES.cautious_message, ""}


def test_no_generic_message_is_a_strategys() -> None:
    texts = [text for name in STRATEGY_NAMES for text in system_messages(STRATEGIES)[name]]
    assert len(set(texts)) == len(texts) == 4 * len(STRATEGY_NAMES)
    assert not set(texts) & set(generic_messages(STRATEGIES))
