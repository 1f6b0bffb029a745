from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat, encode_prompt, load_chat
from orca2_gen.erasure import erase
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.provenance.teaching_faults import example_faults
from orca2_gen.rationales import teach
from orca2_gen.records import Example, Problem, Rationale, Rejection, Shot
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies
from tests.chat.test_encode import texts
from tests.conftest import STRATEGY_NAMES
from tests.dataset.batches import proof_over
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
    assert proof_over([example], chat=chat, strategies=strategies).holds


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
    taught = asyncio.run(
        teach(
            problem,
            "step_by_step",
            engine=ScriptedEngine(chat, lambda request: "Four and five are nine.\nAnswer: 9"),
            chat=chat,
            strategies=strategies,
            asking=ASKING,
        )
    )
    [rationale] = taught.rationales
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
    assert proof_over([example], chat=chat, strategies=strategies).holds
    assert list(example_faults(example, rationale)) == []


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_a_kept_instruction_is_kept_and_not_proved(
    chat: Chat, strategies: Strategies, strategy: str
) -> None:
    rationale = rationale_of(strategies, strategy=strategy)
    example = erased(chat, strategies, rationale, "instruction_kept")
    assert example.messages[0].content == rationale.system
    assert not proof_over([example], chat=chat, strategies=strategies).holds


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
