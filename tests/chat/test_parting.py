"""What a model generates is parted as its template would write it, cut short or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from orca2_gen.chat import (
    Chat,
    encode_prompt,
    encode_text,
    has_stray_marker,
    load_chat,
    opens_thought,
    resumable_ids,
    split_thought,
    template_ids,
)
from orca2_gen.records import Completion
from tests.chat.test_thinking import ASKED, COMPLETION, chat_of, generated, split
from tests.chat.tokenizers import byte_level, markers_of, words_of
from tests.conftest import write_tokenizer


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "collection"


def is_stray(chat: Chat, completion: Completion) -> bool:
    return has_stray_marker(chat, encode_prompt(chat, ASKED), completion)


def ids_of(chat: Chat, text: str) -> tuple[int, ...]:
    """Ids of a text whose markers are real ones."""
    return template_ids(chat, text)


@pytest.mark.parametrize("second", ["analysis", "commentary"])
def test_messages_before_the_final_one_are_one_thought(root: Path, second: str) -> None:
    chat = chat_of("harmony", root)
    said = (
        "<|channel|>analysis<|message|>one two<|end|>"
        f"<|start|>assistant<|channel|>{second}<|message|>three<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Answer: 9<|return|>"
    )
    found = split(chat, ids_of(chat, said))
    assert (found.reasoning, found.text) == ("one two\n\nthree", "Answer: 9")
    assert not is_stray(chat, found)


def test_a_call_of_a_tool_and_a_message_behind_the_final_one_are_stray(root: Path) -> None:
    chat = chat_of("harmony", root)
    begun = "<|channel|>analysis<|message|>one<|end|><|start|>assistant"
    for behind in (
        "<|channel|>commentary to=functions.add<|message|>{}<|call|>",
        "<|channel|>final<|message|>nine<|end|><|start|>assistant<|channel|>final<|message|>ten",
    ):
        assert is_stray(chat, split(chat, ids_of(chat, begun + behind)))


@pytest.mark.parametrize("name", ["harmony", "command_a", "solar", "recipients", "elements"])
def test_an_end_of_a_thought_that_is_cut_short_is_no_part_of_it_and_is_ended_whole(
    root: Path, name: str
) -> None:
    chat = chat_of(name, root)
    assert chat.thinking is not None
    whole = generated(chat, "one two", "nine")
    closing = ids_of(chat, chat.thinking.closing)
    answer = (*encode_text(chat, "nine"), chat.end_id)
    for missing in range(1, len(closing)):
        cut = whole[: -len(answer) - missing]
        found = split(chat, cut)
        assert (found.reasoning, found.text) == ("one two", ""), missing
        assert (*resumable_ids(chat, encode_prompt(chat, ASKED), cut), *answer) == whole


@pytest.mark.parametrize("name", ["command_a", "command_a_answering", "elements"])
def test_markers_behind_an_answer_are_no_part_of_it_also_if_cut_short(
    root: Path, name: str
) -> None:
    chat = chat_of(name, root)
    begun, end = generated(chat, "one", "nine")[:-1], chat.answering.end
    assert end
    for size in range(len(end) + 1):
        found = split(chat, (*begun, *end[:size]))
        assert found.text == "nine" and not is_stray(chat, found)


def test_an_answer_without_the_marker_that_begins_it_is_one(root: Path) -> None:
    chat = chat_of("command_a", root)
    found = split(chat, ids_of(chat, "one two<|END_THINKING|>nine<|END_OF_TURN_TOKEN|>"))
    assert (found.reasoning, found.text) == ("one two", "nine")


def test_a_word_that_the_template_writes_before_an_answer_is_no_part_of_it(root: Path) -> None:
    chat = chat_of("functions", root)
    for said, text in (("all\nnine", "nine"), ("all of nine", "all of nine"), ("nine", "nine")):
        assert split(chat, (*encode_text(chat, said), chat.end_id)).text == text


def test_a_marker_of_the_system_text_opens_no_thought(tmp_path: Path) -> None:
    template = (
        "{{ 'system: begin with <think> and think.\\n' }}"
        "{% for turn in messages %}{{ '<|' + turn.role + '|>' + turn.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokens = [*markers_of("<|user|>", "<|assistant|>", "<|end|>"), *words_of("<think>", "</think>")]
    write_tokenizer(tmp_path, byte_level(tokens), template, eos_token="<|end|>")
    chat = load_chat(str(tmp_path))
    assert not opens_thought(chat, encode_prompt(chat, ASKED))
    found = split(chat, (*encode_text(chat, "nine"), chat.end_id))
    assert (found.reasoning, found.text) == ("", "nine")


ORDINARY = ("<sup>", "</sup>", "<0x41>", "7", "\\frac", "$$", "\u3002", "<table>")
MARKERS = ("<tool_call>", "[UNUSED]", "]~b]", "<mask_1>")


@pytest.mark.parametrize("token", [*ORDINARY, *MARKERS])
def test_words_signs_and_elements_that_are_tokens_are_no_markers(
    tmp_path: Path, token: str
) -> None:
    template = (
        "{% for turn in messages %}{{ '<|' + turn.role + '|>' + turn.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokens = [
        *markers_of("<|user|>", "<|assistant|>", "<|end|>"),
        *words_of("<think>", "</think>", token),
    ]
    write_tokenizer(tmp_path, byte_level(tokens), template, eos_token="<|end|>")
    chat = load_chat(str(tmp_path))
    found = split(chat, ids_of(chat, f"<think>one {token}</think>two {token} x<|end|>"))
    assert is_stray(chat, found) == (token in MARKERS)
    if token in ORDINARY:
        assert (found.reasoning, found.text) == (f"one {token}", f"two {token} x")


@pytest.mark.parametrize(
    "pair", [("<reasoning_effort>", "</reasoning_effort>"), ("<tool_think>", "</tool_think>")]
)
def test_a_pair_that_is_only_about_thoughts_is_none(tmp_path: Path, pair: Sequence[str]) -> None:
    template = (
        "{% for turn in messages %}{{ '<|' + turn.role + '|>' + turn.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokens = [*markers_of("<|user|>", "<|assistant|>", "<|end|>"), *words_of(*pair)]
    write_tokenizer(tmp_path, byte_level(tokens), template, eos_token="<|end|>")
    assert load_chat(str(tmp_path)).thinking is None


def test_a_spelled_marker_with_which_the_prompt_ends_parts_the_thought(root: Path) -> None:
    chat = chat_of("exaone_deep", root)
    said = encode_text(chat, "one two\n</thought>\n\nnine")
    made = dataclasses.replace(COMPLETION, text=chat.tokenizer.decode(said), token_ids=tuple(said))
    found = split_thought(chat, encode_prompt(chat, ASKED), made)
    assert (found.reasoning, found.text) == ("one two", "nine")
