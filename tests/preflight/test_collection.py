"""Preflight says of a model of each published shape what is known of it, or refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.chat import Rendering, load_chat
from orca2_gen.config.arguments import Room
from orca2_gen.preflight.template import check_template, template_lines
from orca2_gen.strategies import Strategies
from tests.chat.collection import directory, rendering, shapes
from tests.chat.published_shape import PublishedShape
from tests.conftest import byte_level_bpe, write_tokenizer

each_shape = pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
PARTS = {
    "names a kind of part": "{{ messages[0]['content'][0]['type'] }}{% for m in messages %}"
    "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}",
    "adds a list": "{% for m in messages %}{{ m['content'] + [] }}<|im_end|>{% endfor %}",
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "collection"


def look(
    folder: Path, role: str, rendering: Rendering, strategies: Strategies
) -> tuple[list[str], list[str]]:
    room = Room(
        role=role,
        tokenizer=str(folder),
        rendering=rendering,
        max_model_len=4096,
        max_tokens=64,
        answer_key="scoring.max_tokens",
    )
    chat = load_chat(room.tokenizer, rendering)
    check_template(f"{role}.model", room, chat, strategies)
    return template_lines(room, chat, strategies)


@each_shape
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_is_described_or_refused_with_role_directory_and_remedy(
    shape: PublishedShape, role: str, root: Path, strategies: Strategies
) -> None:
    folder = directory(shape, root)
    if shape.system == "refused" or (shape.system == "dropped" and role == "student"):
        with pytest.raises(ValueError, match=rf'; set {role}\.system = "fold", ') as refused:
            look(folder, role, Rendering(), strategies)
        line = str(refused.value)
        assert line.startswith(f"{role}.model: {folder}: ") and "\n" not in line
    facts, odd = look(folder, role, rendering(shape), strategies)
    assert all("\n" not in line and len(line) < 500 for line in (*facts, *odd))


@each_shape
def test_what_is_known_of_a_model_is_told(
    shape: PublishedShape, root: Path, strategies: Strategies
) -> None:
    facts, odd = look(directory(shape, root), "student", rendering(shape, "2025-03-04"), strategies)
    told = [
        (shape.date == "shown", "the template shows the date, 2025-03-04", facts),
        (shape.system != "held", "system texts stand before the first user text", facts),
        (bool(shape.own_system), shape.own_system or "the template writes", odd),
        (shape.keeps_own_system, "the run cannot keep it out", odd),
        (shape.opens_think and not shape.row_opening, "without one closes it with '", odd),
        (bool(shape.row_opening), f"a training row writes {shape.row_opening or ''!r}", odd),
        (bool(shape.thought), f"a thought stands between {' and '.join(shape.thought)}", facts),
        (not shape.closes_turns, "which ends no answer; a training row ends with", odd),
    ]
    for is_known, part, lines in told:
        assert any(part in line for line in lines) == is_known, (part, lines)
    assert all(end in facts[0] for end in (shape.eos, *shape.further_ends))


@pytest.mark.parametrize("template", PARTS.values(), ids=PARTS)
def test_a_template_that_only_takes_lists_of_parts_is_refused_in_one_line(
    tmp_path: Path, strategies: Strategies, template: str
) -> None:
    write_tokenizer(tmp_path, byte_level_bpe(), template, eos_token="<|im_end|>")
    with pytest.raises(ValueError, match=r"; use another template$") as refused:
        look(tmp_path, "student", Rendering(), strategies)
    line = str(refused.value)
    assert line.startswith(f"student.model: {tmp_path}: ") and "\n" not in line
