from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.chat import Rendering, load_chat
from orca2_gen.config.arguments import Room
from orca2_gen.preflight.template import check_template, loaded_chat, template_lines
from orca2_gen.strategies import Strategies
from tests.chat.test_templates import CLOCKS, LAST_SYSTEM, NO_SYSTEM, OWN_SYSTEM, TURNS
from tests.conftest import CHATML, byte_level_bpe, write_tokenizer

THOUGHT_OPENED = TURNS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
THOUGHT_WRITTEN = TURNS.replace(
    "{{ m.content }}", "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}"
)
NO_END = TURNS.replace("{{ m.content }}<|im_end|>", "{{ m.content }}")


def room_of(folder: Path, template: str, role: str = "student", **rendering: str) -> Room:
    write_tokenizer(folder, byte_level_bpe(), template, eos_token="<|im_end|>")
    return Room(
        role=role,
        tokenizer=str(folder),
        rendering=Rendering(**rendering),  # type: ignore[arg-type]
        max_model_len=4096,
        max_tokens=64,
        answer_key="scoring.max_tokens",
    )


def look(room: Room, strategies: Strategies) -> tuple[list[str], list[str]]:
    chat = loaded_chat(f"{room.role}.model", room.tokenizer, room.rendering, load_chat)
    check_template(f"{room.role}.model", room, chat, strategies)
    return template_lines(room, chat, strategies)


@pytest.mark.parametrize("template", [NO_SYSTEM, LAST_SYSTEM], ids=["no system", "last system"])
def test_a_student_that_drops_the_system_text_is_refused_with_role_directory_and_key(
    tmp_path: Path, strategies: Strategies, template: str
) -> None:
    with pytest.raises(ValueError, match=r'set student\.system = "fold"') as refused:
        look(room_of(tmp_path, template), strategies)
    line = str(refused.value)
    assert line.startswith(f"student.model: {tmp_path}: ") and "\n" not in line
    facts, odd = look(room_of(tmp_path, template, system="fold"), strategies)
    assert "system texts stand before the first user text" in facts and not odd


def test_a_teacher_is_not_asked_for_training_rows(tmp_path: Path, strategies: Strategies) -> None:
    once = "{% if messages | length > 2 %}{{ raise_exception('two at most') }}{% endif %}" + TURNS
    look(room_of(tmp_path, once, role="teacher"), strategies)
    with pytest.raises(ValueError, match=r"student\.model.*two at most.*another template"):
        look(room_of(tmp_path, once), strategies)


def test_a_plain_template_is_described_and_nothing_is_odd(
    tmp_path: Path, strategies: Strategies
) -> None:
    facts, odd = look(room_of(tmp_path, CHATML), strategies)
    assert facts == ["an answer ends with <|im_end|> (2)"]
    assert odd == []


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (OWN_SYSTEM, "the template writes 'You are Own.'; the run keeps it out"),
        (THOUGHT_OPENED, "a prompt begins a thought with '<think>'; a training row without"),
        (THOUGHT_WRITTEN, "a training row writes '<think></think>' before its answer"),
        (NO_END, "ends no answer; a training row ends with <|im_end|> (2)"),
    ],
)
def test_what_a_template_adds_or_leaves_out_is_one_odd_line(
    tmp_path: Path, strategies: Strategies, template: str, said: str
) -> None:
    _, odd = look(room_of(tmp_path, template), strategies)
    [line] = odd
    assert said in line and "\n" not in line


def test_an_argument_that_changes_nothing_is_odd(tmp_path: Path, strategies: Strategies) -> None:
    template = TURNS + "{% if enable_thinking is false %}<think>{% endif %}"
    for value, num_odd in (("false", 0), ('"false"', 1)):
        room = room_of(tmp_path, template, arguments=f'{{"enable_thinking": {value}}}')
        _, odd = look(room, strategies)
        assert len([line for line in odd if "changes nothing" in line]) == num_odd


def test_a_clock_is_told_with_its_day(tmp_path: Path, strategies: Strategies) -> None:
    facts, odd = look(room_of(tmp_path, CLOCKS["in a macro"], date="2026-03-04"), strategies)
    assert "the template shows the date, 2026-03-04" in facts and not odd


def test_what_a_template_writes_into_a_prompt_is_quoted(
    tmp_path: Path, strategies: Strategies
) -> None:
    written = "<|im_start|>system\nCutting Knowledge Date: May<|im_end|>" + TURNS
    facts, odd = look(room_of(tmp_path, written), strategies)
    assert "a prompt also holds the template's 'system Cutting Knowledge Date: May'" in facts
    assert not odd


def test_an_unknown_argument_is_refused_with_key_and_directory(
    tmp_path: Path, strategies: Strategies
) -> None:
    with pytest.raises(ValueError, match=rf"^student\.model: {tmp_path}: .*does not read think"):
        look(room_of(tmp_path, TURNS, arguments='{"think": true}'), strategies)
