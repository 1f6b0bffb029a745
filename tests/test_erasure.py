from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat, encode_prompt, load_chat
from orca2_gen.dataset.proof import is_erased, prove
from orca2_gen.erasure import erase
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.provenance.lineage import example_faults
from orca2_gen.rationales import teach
from orca2_gen.records import Example, Message, Problem, Rationale, Rejection, Shot
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies
from tests.chat.test_encode import texts
from tests.conftest import STRATEGY_NAMES
from tests.test_lengths import unigram
from tests.test_rationales import ASKING


def rationale_of(
    strategies: Strategies,
    user: str = "What is 4 + 5?",
    text: str = "Nine.\nAnswer: 9",
    strategy: str = "step_by_step",
) -> Rationale:
    return Rationale(
        problem_id="t/train/0",
        task="t",
        strategy=strategy,
        attempt=0,
        system=strategies.instructions[strategy],
        user=user,
        text=text,
        answer="9",
        num_prompt_tokens=1,
        num_completion_tokens=1,
    )


def erased(
    chat: Chat, strategies: Strategies, rationale: Rationale, prompts: str = "erased"
) -> Example:
    example = erase(rationale, chat=chat, strategies=strategies, prompts=prompts, max_tokens=10_000)
    assert isinstance(example, Example)
    return example


@given(user=texts, text=texts, strategy=st.sampled_from(STRATEGY_NAMES))
def test_an_erased_examples_prompt_is_the_cautious_encoding_and_nothing_else(
    chat: Chat, strategies: Strategies, user: str, text: str, strategy: str
) -> None:
    example = erased(chat, strategies, rationale_of(strategies, user, text, strategy))
    expected = encode_prompt(chat, prompt_messages(strategies.cautious_message, user))
    assert example.input_ids[: example.num_prompt_tokens] == expected
    assert [m.content for m in example.messages] == [strategies.cautious_message, user, text]
    assert prove([example], chat=chat, strategies=strategies).holds


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_an_erased_example_never_contains_a_strategy_instruction(
    chat: Chat, strategies: Strategies, strategy: str
) -> None:
    example = erased(chat, strategies, rationale_of(strategies, strategy=strategy))
    decoded = chat.tokenizer.decode(list(example.input_ids))
    for instruction in strategies.instructions.values():
        assert instruction not in decoded
        assert all(instruction not in message.content for message in example.messages)


@pytest.mark.parametrize("num_examples", [0, 4])
def test_a_taught_problem_is_proved_with_its_examples_as_without(
    chat: Chat, strategies: Strategies, sum_problem: Problem, num_examples: int
) -> None:
    shots = [Shot(question=f"What is {n} + 1?", target=str(n + 1)) for n in range(num_examples)]
    problem = dataclasses.replace(sum_problem, examples=tuple(shots))
    rationale = asyncio.run(
        teach(
            problem,
            "step_by_step",
            engine=ScriptedEngine(chat, lambda request: "Four and five are nine.\nAnswer: 9"),
            chat=chat,
            strategies=strategies,
            asking=ASKING,
        )
    )
    assert isinstance(rationale, Rationale)
    example = erased(chat, strategies, rationale)
    user = user_text(problem, strategies)
    assert all(f"{s.question}\nAnswer: {s.target}\n" in user for s in shots)
    assert [m.content for m in example.messages] == [
        strategies.cautious_message,
        user,
        rationale.text,
    ]
    expected = encode_prompt(chat, prompt_messages(strategies.cautious_message, user))
    assert example.input_ids[: example.num_prompt_tokens] == expected
    assert prove([example], chat=chat, strategies=strategies).holds
    assert list(example_faults(example, rationale)) == []


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_kept_instruction_is_kept_and_not_proved(
    chat: Chat, strategies: Strategies, strategy: str
) -> None:
    rationale = rationale_of(strategies, strategy=strategy)
    example = erased(chat, strategies, rationale, "instruction_kept")
    assert example.messages[0].content == rationale.system
    assert not prove([example], chat=chat, strategies=strategies).holds


def test_the_empty_dataset_is_proved(chatml: Chat, strategies: Strategies) -> None:
    assert prove([], chat=chatml, strategies=strategies).holds


@given(data=st.data())
def test_one_changed_id_is_found(chat: Chat, strategies: Strategies, data: st.DataObject) -> None:
    example = erased(chat, strategies, rationale_of(strategies))
    position = data.draw(st.integers(0, len(example.input_ids) - 1))
    ids = list(example.input_ids)
    ids[position] += data.draw(st.sampled_from([-1, 1]))
    changed = dataclasses.replace(example, input_ids=tuple(ids))
    assert not prove([example, changed], chat=chat, strategies=strategies).holds


@given(data=st.data())
def test_a_changed_message_or_prompt_length_is_found(
    chat: Chat, strategies: Strategies, data: st.DataObject
) -> None:
    example = erased(chat, strategies, rationale_of(strategies))
    messages = list(example.messages)
    turn = data.draw(st.integers(0, 2))
    messages[turn] = dataclasses.replace(messages[turn], content=messages[turn].content + " x")
    shifted = example.num_prompt_tokens + data.draw(st.sampled_from([-1, 1]))
    extra = Message(role="user", content=strategies.instructions["step_by_step"])
    for changed in (
        dataclasses.replace(example, messages=tuple(messages)),
        dataclasses.replace(example, messages=(extra, *example.messages)),
        dataclasses.replace(example, messages=example.messages[1:]),
        dataclasses.replace(example, num_prompt_tokens=shifted),
        dataclasses.replace(example, input_ids=(*example.input_ids, 5)),
    ):
        assert not is_erased(changed, chat=chat, strategies=strategies)


def test_the_proof_names_tokenizer_and_texts(chat: Chat, strategies: Strategies) -> None:
    proof = prove(
        [erased(chat, strategies, rationale_of(strategies))], chat=chat, strategies=strategies
    )
    assert (proof.num_examples, proof.num_proved, proof.tokenizer_digest) == (1, 1, chat.digest)
    assert set(proof.instructions_sha256) == set(strategies.names)
    changed = dataclasses.replace(strategies, cautious_message="Be quick.")
    assert (
        prove([], chat=chat, strategies=changed).cautious_message_sha256
        != proof.cautious_message_sha256
    )


def test_an_example_longer_than_the_students_context_is_rejected(
    chat: Chat, strategies: Strategies
) -> None:
    rationale = rationale_of(strategies)
    length = len(erased(chat, strategies, rationale).input_ids)

    def fit(max_tokens: int) -> Example | Rejection:
        return erase(
            rationale, chat=chat, strategies=strategies, prompts="erased", max_tokens=max_tokens
        )

    assert isinstance(fit(length), Example)
    rejection = fit(length - 1)
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.stage) == ("too_long", "examples")


def test_an_answer_that_would_become_a_control_token_is_rejected(
    strategies: Strategies, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chat = load_chat(str(unigram(tmp_path_factory.mktemp("unigram"))))
    rationale = rationale_of(strategies, text="It ends with </s>.\nAnswer: 9")
    rejection = erase(
        rationale, chat=chat, strategies=strategies, prompts="erased", max_tokens=10_000
    )
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.stage) == ("control_token", "examples")
