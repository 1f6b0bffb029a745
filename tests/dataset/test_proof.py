from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat, Rendering, load_chat
from orca2_gen.dataset.proof import ErasureProof
from orca2_gen.records import Message
from orca2_gen.strategies import Strategies
from tests.conftest import CHATML, byte_level_bpe, write_tokenizer
from tests.dataset.batches import proof_over
from tests.test_erasure import erased, rationale_of

CHATML_USER = "<|im_start|>user\n"


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


def quoting(chat: Chat, strategies: Strategies, text: str, user: str = "What is 4 + 5?") -> int:
    example = erased(chat, strategies, rationale_of(strategies, user, text))
    proof = proof_over([example], chat=chat, strategies=strategies)
    assert proof.holds and proof.num_quoting is not None
    return proof.num_quoting


def test_answers_that_quote_any_instruction_are_counted_and_break_no_proof(
    chat: Chat, strategies: Strategies
) -> None:
    for instruction in strategies.instructions.values():
        said = f"As told: {instruction} So nine."
        assert quoting(chat, strategies, said) == 1
        assert quoting(chat, strategies, said, user=f"Follow this: {instruction}") == 0
    assert quoting(chat, strategies, "Nine.\nAnswer: 9") == 0
    assert quoting(chat, strategies, strategies.cautious_message) == 0


def test_words_across_the_template_and_the_users_text_are_an_instruction(
    tmp_path: Path, strategies: Strategies
) -> None:
    words = strategies.instructions["step_by_step"].split()
    for cut in (1, 4, 7):
        started = chat_of(tmp_path / f"a{cut}", f"{CHATML_USER} {' '.join(words[:cut])} ")
        ended = chat_of(tmp_path / f"b{cut}", CHATML_USER, f" {' '.join(words[cut:8])}\n")
        for chat, user in ((started, " ".join(words[cut:9])), (ended, " ".join(words[:cut]))):
            found = proof_of_user(chat, strategies, user)
            assert (found.num_proved, found.num_instructed, found.holds) == (1, 1, False)
            whole = proof_of_user(chat, strategies, " ".join(words))
            assert whole.holds  # the user said it all
            assert proof_of_user(chat, strategies, "What is 4 + 5?").holds


def test_a_word_that_the_template_begins_and_the_user_ends_hides_no_instruction(
    tmp_path: Path, strategies: Strategies
) -> None:
    chat = chat_of(tmp_path / "broken", f"{CHATML_USER}You solve prob")
    text = "lems step by step. Begin with what is given"
    assert not proof_of_user(chat, strategies, text).holds
    assert proof_of_user(chat, strategies, "able is it?").holds


def test_what_a_template_writes_and_the_user_says_too_is_the_users(
    tmp_path: Path, strategies: Strategies
) -> None:
    run = " ".join(strategies.instructions["step_by_step"].split()[:8])
    chat = chat_of(tmp_path / "written", f"{CHATML_USER}{run}\n")
    assert not proof_of_user(chat, strategies, "What is 4 + 5?").holds
    assert proof_of_user(chat, strategies, f"Do you solve it so? {run}").holds


def test_what_a_template_writes_on_another_day_is_in_no_row(
    tmp_path: Path, strategies: Strategies
) -> None:
    dated = (
        "{% if strftime_now('%d') == '13' %}"
        + strategies.instructions["step_by_step"]
        + "{% endif %}"
    )
    folder = tmp_path / "dated"
    write_tokenizer(folder, byte_level_bpe(), dated + CHATML, eos_token="<|im_end|>")
    for date, holds in (("2026-03-13", False), ("2026-03-14", True)):
        chat = load_chat(str(folder), Rendering(date=date))
        assert proof_of_user(chat, strategies, "What is 4 + 5?").holds == holds


def test_anybody_with_tokenizer_and_template_can_hash_what_was_rendered(
    chatml: Chat, strategies: Strategies
) -> None:
    text = chatml.tokenizer.apply_chat_template(
        [
            {"role": "system", "content": strategies.cautious_message},
            {"role": "user", "content": "{user}"},
            {"role": "assistant", "content": "{answer}"},
        ],
        tokenize=False,
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    proof = proof_over([], chat=chatml, strategies=strategies)
    assert proof.rendered_sha256 == {"system user assistant": digest}


def chat_of(folder: Path, before: str, after: str = "") -> Chat:
    """A chat whose template has these texts around a user's."""
    template = (
        "{% for message in messages %}{% if message.role == 'user' %}"
        f"{before}{{{{ message.content }}}}{after}<|im_end|>\n"
        "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    write_tokenizer(folder, byte_level_bpe(), template, eos_token="<|im_end|>")
    return load_chat(str(folder))


def proof_of_user(chat: Chat, strategies: Strategies, user: str) -> ErasureProof:
    example = erased(chat, strategies, rationale_of(strategies, user))
    return proof_over([example], chat=chat, strategies=strategies)
