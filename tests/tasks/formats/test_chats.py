"""A chat becomes the question that it asks and the reply that it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.records import Rejection
from orca2_gen.tasks.formats.chats import read_chat
from orca2_gen.tasks.statements import BadRowError
from tests.tasks.reading import only, parquet_bytes, read, read_lines, reasons


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]


def sharegpt(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"from": role, "value": text} for role, text in turns]


ONE = chat(("system", "Be brief."), ("user", "What pulls the tides?"), ("assistant", "The moon."))
SHARED = sharegpt(("system", "Be brief."), ("human", "What pulls the tides?"), ("gpt", "The moon."))


@pytest.mark.parametrize("row", [{"messages": ONE}, {"conversations": SHARED}])
def test_a_chat_of_one_exchange_is_a_question_and_its_reference(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    problem = only(read_lines(tmp_path, json.dumps(row), answer_type="open"))
    assert problem.question == "Be brief.\n\nWhat pulls the tides?"
    assert (problem.target, problem.answer_type) == ("The moon.", "open")
    mapped = {"messages": "talk"}
    renamed = json.dumps({"talk": next(iter(row.values()))})
    assert only(read_lines(tmp_path, renamed, columns=mapped)).target == "The moon."


def test_earlier_exchanges_stand_before_the_last_question() -> None:
    turns = (("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"), ("assistant", "Me"))
    assert read_chat(chat(*turns), "x") == ("User: Hi\n\nAssistant: Hello\n\nUser: Who?", "Me")
    assert read_chat(chat(*turns[:3]), "x")[1] is None


def test_a_chat_that_ends_with_the_question_needs_an_answer(tmp_path: Path) -> None:
    rows = [
        {"messages": ONE[:2]},
        {"messages": ONE[:2], "answer": 7},
        {"messages": ONE, "answer": 7},
    ]
    found = read_lines(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert reasons(found) == ["no_answer", "problem", "problem"]
    assert {(x.target, x.answer_type) for x in found if not isinstance(x, Rejection)} == {
        ("7", "numeric")
    }


def test_a_question_of_the_rows_own_takes_precedence(tmp_path: Path) -> None:
    row = {"question": "2 + 5?", "answer": "7", "messages": ONE}
    assert only(read_lines(tmp_path, json.dumps(row))).question == "2 + 5?"


def test_parts_that_are_texts_are_joined_and_a_column_of_structs_is_a_chat(tmp_path: Path) -> None:
    import pyarrow as pa

    parts = [{"type": "text", "text": "See"}, {"type": "text", "text": "this"}]
    assert read_chat(chat(("user", parts)), "x") == ("See\nthis", None)
    (tmp_path / "x.parquet").write_bytes(parquet_bytes(pa.table({"conversations": [SHARED]})))
    assert only(read(tmp_path, format="parquet")).target == "The moon."


BAD_CHATS: list[Any] = [
    [],
    "hello",
    {"role": "user"},
    ["hello"],
    chat(("system", "Be brief.")),
    chat(("assistant", "Hello"), ("user", "Hi")),
    chat(("user", "Hi"), ("user", "Who?"), ("assistant", "Me")),
    chat(("user", "Hi"), ("system", "Be brief."), ("assistant", "Me")),
    chat(("user", "Hi"), ("tool", "7")),
    chat(("user", "Hi"), ("assistant", None)),
    chat(("user", " "), ("assistant", "Me")),
    chat(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "Me")),
    chat(("user", 7.5), ("assistant", "Me")),
]


@pytest.mark.parametrize("bad", BAD_CHATS)
def test_a_chat_that_does_not_ask_and_answer_in_turn_is_refused(bad: Any) -> None:
    with pytest.raises(BadRowError, match="bad_chat"):
        read_chat(bad, "messages")
