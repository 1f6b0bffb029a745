"""The laws of encoding hold for a model of each published shape, whatever strangers write."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import (
    Chat,
    ControlTokenError,
    encode_conversation,
    encode_prompt,
    encode_text,
    load_chat,
    shape_of,
)
from orca2_gen.records import Message
from tests.chat.conversations import (
    as_ids_say,
    control,
    conversation,
    decoded,
    ids_of,
    prose,
    rendered,
    strangers,
    with_thought,
    words,
)
from tests.chat.published_shape import PublishedShape


@given(texts=st.lists(strangers, min_size=4, max_size=4))
def test_no_text_of_a_stranger_becomes_a_control_id(
    shape: PublishedShape, shape_chat: Chat, texts: list[str]
) -> None:
    system, *said = texts
    for number in (1, 2, 3):
        try:
            ids = ids_of(shape_chat, conversation(*said[:number], system=system))
        except ControlTokenError as error:  # a Unigram model finds whole markers in any text
            assert shape.knows_markers and "\n" not in str(error)
            continue
        plain = ids_of(shape_chat, conversation(*["a"] * number, system="a"))
        assert control(shape_chat, ids) == control(shape_chat, plain)


def test_no_two_halves_of_a_marker_in_neighbouring_texts_become_one(shape_chat: Chat) -> None:
    wanted = control(shape_chat, ids_of(shape_chat, conversation("a", "a", "a", "a", system="a")))
    for marker in map(str, shape_chat.tokenizer.added_tokens_decoder.values()):
        for cut in range(1, len(marker)):
            left, right = marker[:cut], marker[cut:]
            texts = conversation(right + left, right + left, right + left, right, system=left)
            assert control(shape_chat, ids_of(shape_chat, texts)) == wanted, marker


@given(text=strangers)
def test_a_text_reaches_the_model_whole(shape: PublishedShape, shape_chat: Chat, text: str) -> None:
    text = unicodedata.normalize("NFKC", text)
    if shape.knows_markers:  # it takes the names of bytes for bytes, as it takes whole markers
        text = text.replace("<0x", "<0 x")
    try:
        found: str = shape_chat.data_tokenizer.decode(encode_text(shape_chat, text))
    except ControlTokenError:
        assert shape.knows_markers
        return
    if shape.knows_markers:  # it takes the name of a byte for the byte, as transformers' does
        text = text.replace("<0x0A>", "\n")
    if not shape.is_byte_level:  # sentencepiece's own space is a space to it
        text = text.replace("\u2581", " ")
    assert found in (text, text.removeprefix(" "))


@given(texts=st.lists(strangers, min_size=3, max_size=3), system=st.none() | st.just("Be brief."))
def test_bos_stands_as_often_as_the_template_writes_it(
    shape: PublishedShape, shape_chat: Chat, texts: list[str], system: str | None
) -> None:
    bos = shape_chat.tokenizer.bos_token_id
    for number in (1, 2, 3):
        plain = conversation(*["a"] * number, system=system)
        try:
            ids = ids_of(shape_chat, conversation(*texts[:number], system=system))
        except ControlTokenError:
            continue
        if not shape.bos:
            assert bos is None
            continue
        assert (bos, bos) not in itertools.pairwise(ids)
        if bos in shape_chat.end_ids:
            continue
        assert ids.count(bos) == rendered(shape_chat, plain).count(shape.bos)
        assert shape.many_bos or ids.count(bos) == int(ids[0] == bos)


@given(
    texts=st.lists(strangers, min_size=4, max_size=4),
    system=st.none() | strangers,
    thought=st.just("") | strangers,
)
def test_a_row_is_the_prompt_that_generation_sees_the_answer_and_one_end_token(
    shape_chat: Chat, texts: list[str], system: str | None, thought: str
) -> None:
    thought = thought if shape_chat.thinking is not None else ""
    for number in (2, 4):
        messages = with_thought(conversation(*texts[:number], system=system), thought)
        plain = conversation(*["a"] * number, system=None if system is None else "a")
        plain = with_thought(plain, "a" if thought else "")
        try:
            prompt = encode_prompt(shape_chat, messages[:-1])
            ids, num_prompt_tokens = encode_conversation(shape_chat, messages)
        except ControlTokenError:
            continue
        assert ids[:num_prompt_tokens] == prompt
        trained = ids[num_prompt_tokens:]
        # The template's markers and no others, the last of them the only end of a turn.
        wanted, start = encode_conversation(shape_chat, plain)
        assert control(shape_chat, trained) == control(shape_chat, wanted[start:])
        assert [token in shape_chat.end_ids for token in trained].index(True) == len(trained) - 1


@given(texts=st.lists(prose, min_size=4, max_size=4))
def test_plain_text_reads_as_transformers_renders_it(
    shape: PublishedShape, shape_chat: Chat, texts: list[str]
) -> None:
    system, *said = texts
    for number in (1, 3):
        messages = conversation(*said[:number], system=system)
        wanted = as_ids_say(shape, shape_chat, rendered(shape_chat, messages))
        assert decoded(shape, shape_chat, encode_prompt(shape_chat, messages)) == wanted
    if shape.other_row:
        return
    row = conversation(*said[:2], system=system)
    found = decoded(shape, shape_chat, encode_conversation(shape_chat, row)[0])
    wanted = as_ids_say(shape, shape_chat, rendered(shape_chat, row))
    assert wanted.startswith(found) if shape.closes_turns else found == wanted + shape.eos


@given(texts=st.lists(words, min_size=4, max_size=4))
def test_plain_words_have_the_ids_that_transformers_gives_the_whole_text(
    shape: PublishedShape, shape_chat: Chat, texts: list[str]
) -> None:
    if shape.other_ids:
        return
    system, *said = texts
    for number in (1, 3):
        messages = conversation(*said[:number], system=system)
        assert list(encode_prompt(shape_chat, messages)) == whole(shape_chat, messages)


bare = words.flatmap(lambda text: st.sampled_from(".?!:,;)]*\"'").map(lambda mark: text + mark))
"""Words and a mark at their end, which byte-level tokenizers merge with a newline behind it."""


@given(texts=st.lists(words | bare, min_size=3, max_size=3), system=st.none() | words)
def test_a_row_has_the_ids_of_the_templates_whole_conversation(
    shape: PublishedShape, shape_chat: Chat, texts: list[str], system: str | None
) -> None:
    if shape.other_ids or shape.other_row or (shape.own_system and system is None):
        return
    row = conversation(*texts[:2], system=system)
    assert_is_whole(shape, shape_chat, row)


@given(texts=st.lists(words | bare, min_size=3, max_size=3), system=st.none() | words)
def test_a_row_with_a_thought_has_the_ids_of_the_templates_whole_conversation(
    shape: PublishedShape, shape_chat: Chat, texts: list[str], system: str | None
) -> None:
    if not shape.thought or shape.other_thought or (shape.own_system and system is None):
        return
    row = with_thought(conversation(*texts[:2], system=system), texts[2])
    assert_is_whole(shape, shape_chat, row)


def assert_is_whole(shape: PublishedShape, chat: Chat, row: Sequence[Message]) -> None:
    ids = list(encode_conversation(chat, row)[0])
    wanted = whole(chat, row)
    # Behind the end of the turn a template may write a newline, which no model generates.
    assert ids == (wanted[: len(ids)] if shape.closes_turns else [*wanted, chat.end_id])


def whole(chat: Chat, messages: Sequence[Message]) -> list[int]:
    """The ids that transformers gives the rendered text."""
    ids: list[int] = chat.tokenizer.encode(rendered(chat, messages), add_special_tokens=False)
    return ids


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_conversation_is_held_or_refused_in_one_line(
    shape: PublishedShape, shape_dir: Path, length: int
) -> None:
    plain = load_chat(str(shape_dir))
    for roles in itertools.product(("system", "user", "assistant"), repeat=length):
        try:
            assert len(shape_of(plain, roles).texts) == length + 1
        except ValueError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{shape_dir}: ")
