"""Text that spells a tokenizer's own markers, whole or in halves across fields (fault 31)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.chat import Chat, encode_conversation, encode_prompt, load_chat
from orca2_gen.judging import judging_messages
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Message, Problem
from orca2_gen.strategies import OWN_FILE, Strategies
from tests.faults.drivers import ROOT

MODELS = Path(os.environ.get("ORCA2_TEST_MODELS", ROOT.parent / "shared" / "models"))
"""Folder of model directories that are not part of the repository."""
SPELLED = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<s>",
    "</s>",
    "<bos>",
    "<start_of_turn>",
    "[INST]",
    "<<SYS>>",
    "<think>",
    "</think>",
    "<tool_call>",
    "<|fim_prefix|>",
)
"""Markers that models have; each tokenizer's own are added."""


def tokenizers() -> list[Any]:
    """The parameters of `chat`: fixtures, shipped models, models beside the project."""
    found = ["chatml", "think", "llama"]
    found += [f"{OWN_FILE.with_name('microworld') / name}" for name in ("student", "teacher")]
    beside = [str(path.parent) for path in sorted(MODELS.glob("*/tokenizer.json"))]
    reason = f"{MODELS} holds no model directory: models are not part of the repository"
    absent = pytest.param("models beside the repository", marks=pytest.mark.skip(reason=reason))
    names = [pytest.param(name, id=Path(name).name) for name in (*found, *beside)]
    return names if beside else [*names, absent]


@pytest.fixture(params=tokenizers())
def chat(request: pytest.FixtureRequest) -> Chat:
    if os.sep not in request.param:
        return load_chat(str(request.getfixturevalue(f"{request.param}_dir")))
    try:
        return load_chat(request.param)
    except ValueError as error:  # a base model has no chat template
        pytest.skip(str(error))


def markers(chat: Chat) -> list[str]:
    own = map(str, chat.tokenizer.added_tokens_decoder.values())
    return sorted({*SPELLED, *own})


def control(chat: Chat, ids: tuple[int, ...]) -> list[int]:
    return [token for token in ids if token in chat.control_ids]


def problem_of(question: str, *choices: str) -> Problem:
    return Problem(
        problem_id="t/train/0",
        task="t",
        question=question,
        target="A" if choices else "x",
        answer_type="multiple_choice" if choices else "exact",
        choices=choices,
    )


def conversations(
    left: str, right: str, strategies: Strategies
) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """(place of the seam, conversation) with the two halves of a text on both sides of it."""
    plain, split = problem_of("q"), problem_of(f"q{left}", f"{right}a", "b")
    answer = Message(role="assistant", content=f"{right} a")
    user = user_text(plain, strategies)
    yield "system, user", (*prompt_messages(f"s{left}", right), answer)
    yield "user, assistant", (*prompt_messages("s", user + left), answer)
    yield "question, choice", (*prompt_messages("s", user_text(split, strategies)), answer)
    two = problem_of("q", f"a{left}", f"{right}b")
    yield "choice, choice", (*prompt_messages("s", user_text(two, strategies)), answer)
    further = Message(role="user", content=f"{right} again")
    said = Message(role="assistant", content=f"a{left}")
    yield "assistant, next call", (*prompt_messages("s", user), said, further, answer)


def test_31_no_text_and_no_two_halves_of_one_become_a_control_token(
    chat: Chat, strategies: Strategies
) -> None:
    wanted = {
        seam: control(chat, encode_conversation(chat, messages)[0])
        for seam, messages in conversations("", "", strategies)
    }
    for marker in markers(chat):
        for cut in range(len(marker) + 1):
            halves = marker[:cut], marker[cut:]
            for seam, messages in conversations(*halves, strategies):
                found = control(chat, encode_conversation(chat, messages)[0])
                assert found == wanted[seam], (marker, cut, seam)


def test_31_a_judge_reads_the_markers_of_a_reference_and_an_answer_as_plain_text(
    chat: Chat,
) -> None:
    def asked(question: str, target: str, answer: str) -> list[int]:
        problem = Problem(
            problem_id="t/train/0", task="t", question=question, target=target, answer_type="open"
        )
        return control(chat, encode_prompt(chat, judging_messages(problem, answer)))

    for marker in markers(chat):
        assert asked(marker, marker, marker) == asked("q", "x", "a"), marker
        half = len(marker) // 2
        assert asked(marker[:half], marker[half:], "a") == asked("q", "x", "a"), marker
