from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat, load_chat
from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.vocabulary import vocabulary_lines
from tests.conftest import CHATML, byte_level_bpe, write_tokenizer

EMBEDDING = "model.embed_tokens.weight"


def lines(
    folder: Path, chat: Chat, body: dict[str, Any], rows: int | None = None
) -> tuple[list[str], list[str]]:
    (folder / "config.json").write_text(json.dumps(body))
    tensors = {EMBEDDING: Tensor(dtype="BF16", shape=(rows, 8), num_bytes=0)} if rows else {}
    return vocabulary_lines("student.model", folder, chat, tensors)


def bodies(rows: int) -> list[dict[str, Any]]:
    return [
        {"vocab_size": rows},
        {"model_type": "llama", "vocab_size": rows},
        {"model_type": "gemma3", "text_config": {"vocab_size": rows}},
        {"model_type": "nonesuch", "text_config": {"vocab_size": rows}},
    ]


@given(missing=st.integers(-3, 3), form=st.integers(0, 3))
def test_a_model_is_refused_exactly_if_it_lacks_a_token_of_its_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, chat: Chat, missing: int, form: int
) -> None:
    largest = max(chat.tokenizer.get_vocab().values())
    folder = tmp_path_factory.mktemp("model")
    body = bodies(largest + 1 - missing)[form]
    if missing <= 0:
        facts, odd = lines(folder, chat, body)
        assert facts[0].endswith(f"in {largest + 1 - missing} rows of the model") and not odd
        return
    with pytest.raises(ValueError) as refused:
        lines(folder, chat, body)
    line = str(refused.value)
    assert line.startswith(f"student.model: the tokenizer in {folder} has {missing} token")
    assert "resize" in line and "\n" not in line


def with_added(folder: Path, token: str, **tokens: str) -> Chat:
    tokenizer = byte_level_bpe()
    tokenizer.add_special_tokens([token])
    tokens = {"eos_token": "<|im_end|>", **tokens}
    return load_chat(str(write_tokenizer(folder, tokenizer, CHATML, **tokens)))


def test_an_added_token_without_a_row_is_refused_unless_it_is_padding(tmp_path: Path) -> None:
    chat = with_added(tmp_path / "a", "<new>")
    rows = chat.tokenizer.get_vocab()["<new>"]
    with pytest.raises(ValueError, match=f"has 1 token that the model lacks.*'<new>' \\({rows}\\)"):
        lines(tmp_path, chat, {"vocab_size": rows})
    chat = with_added(tmp_path / "b", "<new>", pad_token="<new>")
    _, odd = lines(tmp_path, chat, {"vocab_size": rows})
    assert odd == [f"the padding token '<new>' ({rows}) has no row in the model"]
    chat = with_added(tmp_path / "c", "<new>", pad_token="<new>", eos_token="<new>")
    with pytest.raises(ValueError, match="<new>"):
        lines(tmp_path, chat, {"vocab_size": rows})


def test_weights_of_another_number_of_rows_than_the_config_says_are_refused(
    tmp_path: Path, chatml: Chat
) -> None:
    rows = max(chatml.tokenizer.get_vocab().values()) + 1
    lines(tmp_path, chatml, {"vocab_size": rows + 8}, rows + 8)
    with pytest.raises(ValueError, match=f"says vocab_size {rows + 8}, and {EMBEDDING} has {rows}"):
        lines(tmp_path, chatml, {"vocab_size": rows + 8}, rows)


def test_a_model_of_several_parts_may_have_rows_of_its_own(tmp_path: Path, chatml: Chat) -> None:
    rows = max(chatml.tokenizer.get_vocab().values()) + 1
    body = {"model_type": "gemma3", "text_config": {"vocab_size": rows - 1}}
    lines(tmp_path, chatml, body, rows)
    with pytest.raises(ValueError, match="has 1 token that the model lacks"):
        lines(tmp_path, chatml, body, rows - 1)


@pytest.mark.parametrize("form", range(4))
def test_overrides_of_a_config_count_as_its_own(tmp_path: Path, chatml: Chat, form: int) -> None:
    rows = max(chatml.tokenizer.get_vocab().values()) + 1
    (tmp_path / "config.json").write_text(json.dumps(bodies(rows - 1)[form]))
    more = bodies(rows)[form]
    more.pop("model_type", None)
    vocabulary_lines("student.model", tmp_path, chatml, {}, more)
    with pytest.raises(ValueError, match="has 1 token that the model lacks"):
        vocabulary_lines("student.model", tmp_path, chatml, {})


def test_a_config_that_does_not_say_its_vocabulary_is_left_to_vllm(
    tmp_path: Path, chatml: Chat
) -> None:
    assert lines(tmp_path, chatml, {}) == ([], [])
