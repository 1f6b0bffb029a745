from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.chat import Rendering, load_chat
from orca2_gen.config.schema import RationalesConfig
from orca2_gen.preflight.thoughts import check_kept_thoughts, check_thinking_tokens
from tests.chat.collection import directory, rendering, shapes

KEEP = RationalesConfig(thoughts="keep")
NAMES = [shape.name for shape in shapes()]
THINKING = [shape.name for shape in shapes() if shape.thought and not shape.closes_think]
CLOSED = [shape.name for shape in shapes() if shape.closes_think]


def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    [shape] = [shape for shape in shapes() if shape.name == name]
    return directory(shape, tmp_path_factory.getbasetemp() / "collection")


@pytest.mark.parametrize("name", NAMES)
def test_thoughts_are_kept_only_for_a_student_that_has_markers_for_them(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    [shape] = [shape for shape in shapes() if shape.name == name]
    chat = load_chat(str(folder(name, tmp_path_factory)), rendering(shape))
    if name in CLOSED:
        with pytest.raises(ValueError, match="closes the thought before the answer begins"):
            check_kept_thoughts("student.model", KEEP, chat, True)
        return
    if name in THINKING:
        check_kept_thoughts("student.model", KEEP, chat, True)
        check_thinking_tokens("student", 100, chat)
        return
    with pytest.raises(ValueError, match=r'^student.model: .* set it to "drop"') as refused:
        check_kept_thoughts("student.model", KEEP, chat, True)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"^teacher.thinking_tokens: .*or remove the key$"):
        check_thinking_tokens("teacher", 100, chat)
    for thoughts in ("drop", "refuse"):
        check_kept_thoughts("student.model", RationalesConfig(thoughts=thoughts), chat, True)
    check_thinking_tokens("teacher", None, chat)


def test_declared_markers_make_any_model_one_that_thinks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rendering = Rendering(thinking=("<thought>", "</thought>"))
    chat = load_chat(str(folder("chatml", tmp_path_factory)), rendering)
    check_kept_thoughts("student.model", KEEP, chat, True)
    check_thinking_tokens("student", 100, chat)


@pytest.mark.parametrize("name", ["qwen_3", "smollm_3"])
def test_thoughts_are_not_kept_where_the_prompt_has_closed_them(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    rendering = Rendering(arguments='{"enable_thinking": false}')
    chat = load_chat(str(folder(name, tmp_path_factory)), rendering)
    with pytest.raises(ValueError, match="closes the thought before the answer begins") as refused:
        check_kept_thoughts("student.model", KEEP, chat, True)
    assert "\n" not in str(refused.value)
