from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.records import Message
from orca2_gen.strategies import Strategies
from tests.dataset.batches import proof_over
from tests.test_erasure import erased, rationale_of


def test_the_empty_dataset_is_proved(chatml: Chat, strategies: Strategies) -> None:
    assert proof_over([], chat=chatml, strategies=strategies).holds


@given(data=st.data())
def test_one_changed_id_is_found(chat: Chat, strategies: Strategies, data: st.DataObject) -> None:
    example = erased(chat, strategies, rationale_of(strategies))
    position = data.draw(st.integers(0, len(example.input_ids) - 1))
    ids = list(example.input_ids)
    ids[position] += data.draw(st.sampled_from([-1, 1]))
    changed = dataclasses.replace(example, input_ids=tuple(ids))
    assert not proof_over([example, changed], chat=chat, strategies=strategies).holds


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
        assert not proof_over([changed], chat=chat, strategies=strategies).holds


def test_the_proof_names_tokenizer_and_texts(chat: Chat, strategies: Strategies) -> None:
    proof = proof_over(
        [erased(chat, strategies, rationale_of(strategies))], chat=chat, strategies=strategies
    )
    assert (proof.num_examples, proof.num_proved, proof.tokenizer_digest) == (1, 1, chat.digest)
    assert set(proof.instructions_sha256) == set(strategies.names)
    changed = dataclasses.replace(strategies, cautious_message="Be quick.")
    assert (
        proof_over([], chat=chat, strategies=changed).cautious_message_sha256
        != proof.cautious_message_sha256
    )
