"""A thought is parted from its answer by ids, in a model of each published shape that thinks."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import (
    Chat,
    encode_conversation,
    encode_prompt,
    encode_text,
    has_stray_marker,
    load_chat,
    opens_thought,
    parted,
    resumable_ids,
    split_thought,
    template_ids,
)
from orca2_gen.erasure import erase
from orca2_gen.rationales import Asking, Thoughts, teach
from orca2_gen.records import Completion, Example, Message, Problem
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies
from tests.chat.collection import directory, rendering, shapes
from tests.chat.conversations import control, conversation, rendered, with_thought, words
from tests.chat.published_shape import PublishedShape
from tests.dataset.batches import proof_over

THINKING = [shape for shape in shapes() if shape.thought and not shape.has_spelled_thought]
each_thinker = pytest.mark.parametrize("name", [shape.name for shape in THINKING])
COMPLETION = Completion(
    problem_id="t/train/0",
    role="student",
    strategy="step_by_step",
    call=0,
    attempt=0,
    text="",
    finish_reason="stop",
    num_prompt_tokens=1,
    num_cached_tokens=0,
    num_completion_tokens=1,
)
ASKED = conversation("What is 4 + 5?")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "collection"


def chat_of(name: str, root: Path) -> Chat:
    [shape] = [shape for shape in shapes() if shape.name == name]
    return load_chat(str(directory(shape, root)), rendering(shape))


def generated(chat: Chat, reasoning: str, answer: str) -> tuple[int, ...]:
    """What a model of this shape generates that thinks before it answers."""
    thinking = chat.thinking
    assert thinking is not None
    prompt = encode_prompt(chat, ASKED)
    opening = () if opens_thought(chat, prompt) else template_ids(chat, thinking.opening)
    return (
        *opening,
        *encode_text(chat, reasoning),
        *template_ids(chat, thinking.closing),
        *encode_text(chat, answer),
        chat.end_id,
    )


def split(chat: Chat, ids: Sequence[int]) -> Completion:
    shown = chat.tokenizer.decode(list(ids), skip_special_tokens=True)  # as vLLM shows it
    made = dataclasses.replace(COMPLETION, text=shown, token_ids=tuple(ids))
    return split_thought(chat, encode_prompt(chat, ASKED), made)


@each_thinker
@given(reasoning=words, answer=words)
def test_thought_and_answer_are_parted_and_hold_no_marker(
    root: Path, name: str, reasoning: str, answer: str
) -> None:
    chat = chat_of(name, root)
    ids = generated(chat, reasoning, answer)
    found = split(chat, ids)
    assert (found.reasoning, found.text, found.token_ids) == (reasoning, answer, ids)
    assert not has_stray_marker(chat, encode_prompt(chat, ASKED), found)


@each_thinker
@given(answer=words)
def test_an_answer_without_a_thought_is_whole(root: Path, name: str, answer: str) -> None:
    chat = chat_of(name, root)
    row, num_prompt_tokens = encode_conversation(
        chat, (*ASKED, Message(role="assistant", content=answer))
    )
    found = split(chat, row[num_prompt_tokens:])
    assert (found.reasoning, found.text) == ("", answer)


@each_thinker
@given(
    texts=st.lists(words, min_size=3, max_size=3),
    marker=st.sampled_from(["<think>", "</think>", "<|channel|>final<|message|>", "<|im_end|>"]),
)
def test_a_marker_that_is_only_spelled_parts_nothing(
    root: Path, name: str, texts: list[str], marker: str
) -> None:
    chat = chat_of(name, root)
    quoting = [f"{text} {marker} {text}" for text in texts]
    found = split(chat, generated(chat, quoting[0], quoting[1]))
    assert (found.reasoning, found.text) == (quoting[0], quoting[1])
    assert not has_stray_marker(chat, encode_prompt(chat, ASKED), found)


@each_thinker
@given(reasoning=words, answer=words)
def test_a_thought_without_an_end_leaves_no_answer_and_is_closed_to_go_on(
    root: Path, name: str, reasoning: str, answer: str
) -> None:
    chat = chat_of(name, root)
    assert chat.thinking is not None
    prompt = encode_prompt(chat, ASKED)
    whole = generated(chat, reasoning, answer)
    after = (*template_ids(chat, chat.thinking.closing), *encode_text(chat, answer), chat.end_id)
    cut = whole[: -len(after)]
    found = split(chat, cut)
    assert (found.reasoning, found.text) == (reasoning, "")
    begun = resumable_ids(chat, prompt, cut)
    assert (*begun, *encode_text(chat, answer), chat.end_id) == whole
    # A closed one goes on where it ended.
    assert resumable_ids(chat, prompt, whole) == whole[:-1]


@each_thinker
@given(texts=st.lists(words, min_size=4, max_size=4))
def test_a_second_thought_is_a_stray_marker_and_leaves_no_marker_in_the_text(
    root: Path, name: str, texts: list[str]
) -> None:
    chat = chat_of(name, root)
    assert chat.thinking is not None
    again = (
        *template_ids(chat, chat.thinking.opening),
        *encode_text(chat, texts[2]),
        *template_ids(chat, chat.thinking.closing),
        *encode_text(chat, texts[3]),
    )
    ids = (*generated(chat, texts[0], texts[1])[:-1], *again, chat.end_id)
    found = split(chat, ids)
    assert has_stray_marker(chat, encode_prompt(chat, ASKED), found)
    assert found.reasoning == texts[0]
    assert not control(chat, encode_text(chat, found.text))
    added = [str(token) for token in chat.tokenizer.added_tokens_decoder.values()]
    assert not any(marker in found.text for marker in added)


def test_a_marker_that_the_model_left_out_at_the_beginning_is_not_missed(root: Path) -> None:
    chat = chat_of("smollm_3", root)
    ids = generated(chat, "one two", "three")
    start = template_ids(chat, "<think>\n")
    found = split(chat, ids[len(start) :])
    assert (found.reasoning, found.text) == ("one two", "three")


@pytest.mark.parametrize("name", ["r1", "smollm_3"])
def test_vllms_own_parser_finds_the_same_ids_of_the_answer(root: Path, name: str) -> None:
    from vllm.reasoning import ReasoningParserManager

    chat = chat_of(name, root)
    parser = ReasoningParserManager.get_reasoning_parser("deepseek_r1")(chat.tokenizer)
    ids = generated(chat, "one two", "three four")
    assert parser.is_reasoning_end(list(ids))
    found = parted(chat, encode_prompt(chat, ASKED), ids)
    assert [*found.answer, chat.end_id] == parser.extract_content_ids(list(ids))


@pytest.mark.parametrize("name", ["chatml", "gemma_3", "llama_2"])
@given(reasoning=words, answer=words)
def test_declared_markers_part_what_the_model_begins_with_and_nothing_later(
    root: Path, name: str, reasoning: str, answer: str
) -> None:
    plain = chat_of(name, root)
    chat = load_chat(
        plain.directory, dataclasses.replace(plain.rendering, thinking=("<thought>", "</thought>"))
    )
    said = f"<thought>\n{reasoning}\n</thought>\n\n{answer}"
    found = split(chat, (*encode_text(chat, said), chat.end_id))
    assert (found.reasoning, found.text) == (reasoning, answer)
    assert split(plain, (*encode_text(plain, said), plain.end_id)).reasoning == ""
    later = f"{answer} {said}"
    assert split(chat, (*encode_text(chat, later), chat.end_id)).text == later


@each_thinker
def test_a_further_call_shows_earlier_thoughts_only_as_its_template_does(
    root: Path, name: str
) -> None:
    chat = chat_of(name, root)
    first = Message(role="assistant", content="It is nine.", reasoning="4 and 5")
    said = (*ASKED, first, Message(role="user", content="Sure?"))
    shown = chat.tokenizer.encode(rendered(chat, said), add_special_tokens=False)
    assert list(encode_prompt(chat, said)) == shown


class Teachers:
    """Problems that a teacher of one shape answers, with and without thoughts."""

    def __init__(self, chat: Chat, draw: random.Random) -> None:
        self.chat, self.draw = chat, draw

    def words(self) -> str:
        return " ".join("".join(self.draw.choices("abcdefgh", k=4)) for _ in range(5))

    def __call__(self, request: object) -> Sequence[int]:
        quoted = self.draw.choice(["", " <think>", " </think>", " <|im_end|>"])
        answer = f"{self.words()}{quoted}.\nAnswer: 9"
        thought = f"{self.words()}{quoted}."
        if self.chat.thinking is None:
            return encode_text(self.chat, answer)
        if self.draw.random() < 0.2:  # no thought
            row, num_asked = encode_conversation(
                self.chat, (*ASKED, Message(role="assistant", content=answer))
            )
            return row[num_asked:-1]
        return generated(self.chat, thought, answer)[:-1]


ASKING = Asking(
    max_tokens=400,
    max_model_len=4096,
    max_attempts=1,
    temperature=0.7,
    top_p=0.9,
    verify=True,
    run_seed=0,
)


@pytest.mark.parametrize("num", [1_500, pytest.param(5_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("thoughts", ["keep", "drop"])
def test_no_row_holds_a_marker_of_the_teachers_or_opens_otherwise_than_its_template(
    root: Path, strategies: Strategies, sum_problem: Problem, thoughts: Thoughts, num: int
) -> None:
    draw = random.Random(thoughts)
    teachers = [chat_of(shape.name, root) for shape in (*THINKING, shapes()[0])]
    asking = dataclasses.replace(ASKING, thoughts=thoughts)
    students = [shape for shape in shapes() if thoughts == "drop" or shape.thought]
    num_rows = num_thoughts = 0
    for shape in students:
        student = chat_of(shape.name, root)
        for teacher in teachers:
            engine = ScriptedEngine(teacher, Teachers(teacher, draw))
            for _ in range(1 + num // (len(students) * len(teachers))):
                taught = asyncio.run(
                    teach(
                        sum_problem,
                        "step_by_step",
                        engine=engine,
                        chat=teacher,
                        strategies=strategies,
                        asking=asking,
                    )
                )
                [rationale] = taught.rationales
                row = erase(
                    rationale,
                    chat=student,
                    strategies=strategies,
                    prompts="erased",
                    max_tokens=4096,
                    keeps_thought=thoughts == "keep",
                )
                assert isinstance(row, Example), row
                assert proof_over([row], chat=student, strategies=strategies).holds
                assert_opens_rightly(shape, student, row)
                num_rows += 1
                num_thoughts += bool(row.messages[-1].reasoning)
    assert num_rows >= num
    assert bool(num_thoughts) == (thoughts == "keep")


def assert_opens_rightly(shape: PublishedShape, chat: Chat, row: Example) -> None:
    """The row's markers are those of its template around plain words, and no others."""
    *asked, answer = row.messages
    plain = [dataclasses.replace(message, content="a") for message in asked]
    blank = Message(role="assistant", content="a", reasoning="a" if answer.reasoning else "")
    wanted, start = encode_conversation(chat, (*plain, blank))
    trained = row.input_ids[row.num_prompt_tokens :]
    assert control(chat, trained) == control(chat, wanted[start:])
    is_known = shape.other_thought if answer.reasoning else shape.other_row
    if not (is_known or shape.other_ids) and "<" not in f"{answer.content}{answer.reasoning}":
        text = rendered(chat, with_thought(row.messages, answer.reasoning))
        whole = chat.tokenizer.encode(text, add_special_tokens=False)
        assert list(row.input_ids) == (
            whole[: len(row.input_ids)] if shape.closes_turns else [*whole, chat.end_id]
        )
