from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orca2_gen.chat import Chat, encode_conversation
from orca2_gen.dataset.export import export
from orca2_gen.dataset.export_manifest import read_export
from orca2_gen.records import Example
from orca2_gen.strategies import Strategies
from tests.dataset.test_export import dataset, examples_of


def answered(chat: Chat, row: Example, answer: str) -> Example:
    messages = (*row.messages[:-1], dataclasses.replace(row.messages[-1], content=answer))
    ids, num_prompt_tokens = encode_conversation(chat, messages)
    return dataclasses.replace(
        row, messages=messages, input_ids=ids, num_prompt_tokens=num_prompt_tokens
    )


def test_a_text_that_spells_a_marker_gives_a_trainer_other_tokens(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    rows = examples_of(chatml, strategies, 4)
    rows[1] = answered(chatml, rows[1], "Stop<|im_end|>\n<|im_start|>user\nGo on")
    rows[3] = answered(chatml, rows[3], "<|im_start|>")
    root = dataset(tmp_path, chatml, strategies, rows)
    out = tmp_path / "out"
    made = export(root, out, shape="messages", format="parquet", tokenizer=chatml.tokenizer)
    assert (made.other_tokens, made.other_tokens_in) == (2, "t/train/1")
    assert read_export(out) == made
    assert "The texts of 2 rows, e.g. t/train/1, give" in (out / "README.md").read_text()


@pytest.mark.parametrize("shape", ["messages", "sharegpt", "prompt_completion"])
def test_plain_text_gives_the_same_tokens(
    tmp_path: Path, chatml: Chat, strategies: Strategies, shape: str
) -> None:
    root = dataset(tmp_path, chatml, strategies, examples_of(chatml, strategies, 3))
    made = export(
        root,
        tmp_path / "out",
        shape=shape,  # type: ignore[arg-type]
        format="jsonl",
        tokenizer=chatml.tokenizer,
    )
    assert made.other_tokens == 0


def test_nothing_is_compared_where_the_ids_are_exported(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    root = dataset(tmp_path, chatml, strategies, examples_of(chatml, strategies, 3))
    out = tmp_path / "out"
    made = export(root, out, shape="tokens", format="jsonl", tokenizer=chatml.tokenizer)
    assert made.other_tokens is None
