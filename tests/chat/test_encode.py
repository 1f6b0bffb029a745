from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import (
    Chat,
    ControlTokenError,
    encode_conversation,
    encode_conversations,
    encode_prompt,
    encode_text,
    load_chat,
)
from orca2_gen.records import Message
from tests.conftest import CHATML, byte_level_bpe, write_tokenizer
from tests.test_lengths import unigram

CONTROL_TEXTS = (
    "<|im_start|>system",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<think>",
    "</think>",
    "[INST]",
    "<<SYS>>",
    "<0x0A>",
    "{{ 7*7 }}",
    "{% raise %}",
)
# U+2581 is sentencepiece's own space, which it cannot tell from a space.
texts = st.lists(
    st.one_of(
        st.sampled_from(CONTROL_TEXTS),
        st.text(st.characters(codec="utf-8", exclude_characters="\u2581\0"), max_size=12),
    ),
    max_size=8,
).map("".join)


def messages(system: str, user: str) -> tuple[Message, ...]:
    return Message(role="system", content=system), Message(role="user", content=user)


def rendered(chat: Chat, system: str, user: str, assistant: str | None = None) -> str:
    """The template around plain words, which are replaced by the data after rendering."""
    conversation = [{"role": "system", "content": "SYS-0"}, {"role": "user", "content": "USR-1"}]
    if assistant is not None:
        conversation.append({"role": "assistant", "content": "ASS-2"})
    text: str = chat.tokenizer.apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=assistant is None
    )
    return text.replace("SYS-0", system).replace("USR-1", user).replace("ASS-2", assistant or "")


def decoded(chat: Chat, ids: tuple[int, ...]) -> str:
    text: str = chat.tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    # The sentencepiece tokenizer writes a space after its BOS; no text there asked for it.
    return text.replace("<s> [INST]", "<s>[INST]", 1)


def test_a_question_that_spells_every_control_token_yields_no_control_id(chat: Chat) -> None:
    text = " ".join(CONTROL_TEXTS) + "".join(CONTROL_TEXTS)
    assert chat.control_ids.isdisjoint(encode_text(chat, text))


@given(text=texts)
def test_data_never_yields_a_control_id_and_decodes_to_itself(chat: Chat, text: str) -> None:
    ids = encode_text(chat, text)
    assert chat.control_ids.isdisjoint(ids)
    # A decoder of sentencepiece's kind drops one space at the start.
    assert chat.data_tokenizer.decode(ids) in (text, text[1:] if text.startswith(" ") else text)


@given(system=texts, user=texts)
def test_a_prompt_decodes_to_the_template_with_the_data_as_plain_characters(
    chat: Chat, system: str, user: str
) -> None:
    assert decoded(chat, encode_prompt(chat, messages(system, user))) == rendered(
        chat, system, user
    )


@given(user=texts)
def test_a_prompt_holds_the_control_ids_of_its_template_and_no_more(chat: Chat, user: str) -> None:
    def control(ids: tuple[int, ...]) -> list[int]:
        return [token for token in ids if token in chat.control_ids]

    assert control(encode_prompt(chat, messages("s", user))) == control(
        encode_prompt(chat, messages("s", "plain"))
    )


@given(system=texts, user=texts, answer=texts)
def test_a_conversation_starts_with_the_prompt_that_generation_sees(
    chat: Chat, system: str, user: str, answer: str
) -> None:
    prompt = encode_prompt(chat, messages(system, user))
    ids, num_prompt = encode_conversation(
        chat, (*messages(system, user), Message(role="assistant", content=answer))
    )
    assert ids[:num_prompt] == prompt
    trained = ids[num_prompt:]
    assert [token in chat.end_ids for token in trained] == [False] * (len(trained) - 1) + [True]
    # Llama's template puts a space before an answer, which merges with its first word.
    said = [tuple(encode_text(chat, space + answer)) for space in ("", " ")]
    assert any(trained[: len(ids)] == ids for ids in said)


def one_by_one(chat: Chat, conversation: tuple[Message, ...]) -> object:
    try:
        return encode_conversation(chat, conversation)
    except ValueError as error:
        return type(error), str(error)


def together(chat: Chat, conversations: list[tuple[Message, ...]]) -> list[object]:
    found = encode_conversations(chat, conversations)
    return [(type(f), str(f)) if isinstance(f, ValueError) else f for f in found]


answers = st.builds(
    Message, role=st.just("assistant"), content=texts, reasoning=st.sampled_from(["", "a", "a "])
)
rows = st.builds(
    lambda system, user, answer: (*messages(system, user), answer), texts, texts, answers
)


@given(conversations=st.lists(rows, max_size=5), repeated=st.integers(0, 4))
def test_conversations_that_are_encoded_together_are_encoded_as_each_alone(
    chat: Chat, conversations: list[tuple[Message, ...]], repeated: int
) -> None:
    given = [*conversations, *conversations[:repeated]]
    assert together(chat, given) == [one_by_one(chat, each) for each in given]


def test_a_conversation_with_a_control_token_spoils_none_beside_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    chat = load_chat(str(unigram(tmp_path_factory.mktemp("unigram"))))
    sound, bad = (
        (*messages("s", user), Message(role="assistant", content="a")) for user in ("u", "</s>")
    )
    found = together(chat, [sound, bad, sound])
    assert found == [one_by_one(chat, each) for each in (sound, bad, sound)]
    assert found[0] == found[2] != found[1] and found[1][0] is ControlTokenError  # type: ignore[index]


def test_there_is_one_bos_and_it_comes_first(llama_dir: Path) -> None:
    chat = load_chat(str(llama_dir))
    ids, _ = encode_conversation(
        chat, (*messages("<s>", "<s> a"), Message(role="assistant", content="<s>"))
    )
    assert ids[0] == chat.tokenizer.bos_token_id
    assert ids.count(chat.tokenizer.bos_token_id) == 1


def test_no_seam_of_a_sentencepiece_prompt_adds_a_space(llama_dir: Path) -> None:
    chat = load_chat(str(llama_dir))
    text = decoded(chat, encode_prompt(chat, messages("be careful", "how many?")))
    assert text == "<s>[INST] <<SYS>>\nbe careful\n<</SYS>>\n\nhow many? [/INST]"


def test_template_source_in_data_stays_literal(chat: Chat) -> None:
    text = "{{ 7*7 }}{% raise %}{# gone #}"
    assert text in decoded(chat, encode_prompt(chat, messages("s", text)))


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", "drops"),
        (
            "{% for m in messages %}{{ raise_exception('System role not supported') }}{% endfor %}",
            "refuses",
        ),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "reorders"),
        (
            "{{ messages[0].content }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
            "repeats",
        ),
    ],
)
def test_a_template_that_does_not_hold_each_message_once_is_refused(
    tmp_path: Path, template: str, word: str
) -> None:
    write_tokenizer(tmp_path, byte_level_bpe(), template, eos_token="<|im_end|>")
    with pytest.raises(ValueError, match=word):
        encode_prompt(load_chat(str(tmp_path)), messages("be careful", "how many?"))


def test_a_directory_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_chat(str(tmp_path))


def test_a_tokenizer_without_template_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, byte_level_bpe(), None, eos_token="<|im_end|>")
    with pytest.raises(ValueError, match="no chat template"):
        load_chat(str(tmp_path))


def test_a_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, byte_level_bpe(), CHATML)
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        load_chat(str(tmp_path))


def test_end_ids_hold_those_of_the_generation_config(chatml_dir: Path, tmp_path: Path) -> None:
    model = shutil.copytree(chatml_dir, tmp_path / "model")
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert load_chat(str(model)).end_ids == {0, 2}


def test_a_template_that_closes_no_turn_gets_the_tokenizers_own_end_token(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.content }}\n{% endfor %}"
    write_tokenizer(tmp_path, byte_level_bpe(), template, eos_token="<|im_end|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    chat = load_chat(str(tmp_path))
    ids, _ = encode_conversation(
        chat, (*messages("s", "u"), Message(role="assistant", content="a"))
    )
    assert ids[-1] == chat.tokenizer.eos_token_id


def test_the_digest_knows_template_tokenizer_and_end_tokens(
    chatml_dir: Path, tmp_path: Path
) -> None:
    def digest_with(name: str, body: str) -> str:
        model = shutil.copytree(chatml_dir, tmp_path / name)
        (model / name).write_text(body)
        return load_chat(str(model)).digest

    digests = {
        load_chat(str(chatml_dir)).digest,
        digest_with("chat_template.jinja", CHATML + " "),
        digest_with("generation_config.json", json.dumps({"eos_token_id": [0]})),
    }
    assert len(digests) == 3
