from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.quoting import quotes_instruction
from orca2_gen.records import Problem
from orca2_gen.strategies import Strategies
from orca2_gen.tasks.taxonomy import load_taxonomy
from tests.conftest import STRATEGY_NAMES, load_strategies

WHOLE = """
cautious_message = "Be careful."
answer_sentence = false
[[strategy]]
name = "step_by_step"
instruction = "Think step by step."
"""


def test_the_packages_own_file_holds_the_six_strategies(strategies: Strategies) -> None:
    assert set(strategies.names) == set(STRATEGY_NAMES)
    assert len(set(strategies.instructions.values())) == 6


def test_no_instruction_quotes_another_or_the_cautious_message(strategies: Strategies) -> None:
    """Else an honest rationale under one could be refused for the words of another."""
    for name, text in strategies.instructions.items():
        others = [
            *(t for n, t in strategies.instructions.items() if n != name),
            strategies.cautious_message,
        ]
        assert not any(quotes_instruction(other, text, "") for other in others)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            ("cautious_message", "cautious_mesage"),
            "unknown key 'cautious_mesage'; did you mean 'cautious_message'",
        ),
        (('cautious_message = "Be careful."', ""), "has no cautious_message; add it: text"),
        (("Be careful.", ""), "cautious_message is empty; expected text in quotes"),
        (
            ("answer_sentence = false", 'answer_sentence = "no"'),
            "answer_sentence is text; expected true or false",
        ),
        (
            ("[[strategy]]", "[strategy]"),
            r"strategy is a section; expected a list of sections \[\[strategy\]\]",
        ),
        (("[[strategy]]", "strategy = [3]\n[other]"), "unknown key 'other'; expected"),
        (
            (WHOLE[WHOLE.index("[[") :], "strategy = [3]"),
            "number 1 is a number; expected a section",
        ),
        (('name = "step_by_step"', 'name = "step-by-step"'), "is called 'step-by-step'"),
        (('name = "step_by_step"', 'name = "cautious"'), "is called 'cautious'"),
        (
            ("Think step by step.", ""),
            r"\[\[strategy\]\] number 1 \('step_by_step'\): instruction is empty",
        ),
        (("Think step by step.", "  "), "instruction is empty"),
        (("Be careful.", " "), "cautious_message is empty"),
        (('name = "step_by_step"', ""), "number 1 has no name; add it: text in quotes"),
        (('name = "step_by_step"', "name = 2026-01-01"), "name is a date or time; expected text"),
        (("[[strategy]]", "[["), "is not TOML: line 4, column 3: expected a name"),
    ],
)
def test_a_mistake_in_a_strategies_file_is_one_line_that_names_the_key(
    tmp_path: Path, change: tuple[str, str], word: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WHOLE.replace(*change))
    with pytest.raises(ValueError, match=word) as caught:
        load_strategies(str(file))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_a_strategy_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WHOLE + WHOLE[WHOLE.index("[[") :])
    with pytest.raises(ValueError, match="given twice"):
        load_strategies(str(file))


SPECIAL = """
[[instruction]]
strategy = "step_by_step"
category = "logic"
instruction = "List the cases."
[[instruction]]
strategy = "step_by_step"
category = "logic"
sub_category = "puzzles"
instruction = "Draw a grid."
"""


def place(category: str, sub_category: str = "") -> Problem:
    return Problem(
        problem_id="t/train/0",
        task="t",
        question="Who?",
        target="A",
        answer_type="exact",
        category=category,
        sub_category=sub_category,
    )


def test_the_nearest_instruction_holds_for_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WHOLE + SPECIAL)
    found = load_strategies(str(file))
    told = {
        each: found.system_message("step_by_step", each)
        for each in (place("logic", "puzzles"), place("logic", "sets"), place("algebra", "puzzles"))
    }
    assert list(told.values()) == ["Draw a grid.", "List the cases.", "Think step by step."]
    assert found.system_message("step_by_step") == "Think step by step."
    assert found.system_message("cautious", place("logic")) == "Be careful."
    assert set(found.every_instruction.values()) == set(told.values())


def test_a_strategy_may_say_more_in_further_calls(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WHOLE + 'further_calls = ["Now answer.", "  Check it. "]\n')
    assert load_strategies(str(file)).further_calls == {
        "step_by_step": ("Now answer.", "Check it.")
    }


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ("further_calls = []", "further_calls is empty; expected a list of texts"),
        ('further_calls = "Now answer."', "further_calls is text; expected a list of texts"),
        ('further_calls = [" "]', "further_calls holds an empty text; expected texts"),
        ("further_calls = [3]", "further_calls holds a number; expected texts"),
        (SPECIAL.replace('"step_by_step"', '"cot"'), "not a strategy of this file"),
        (SPECIAL.replace('sub_category = "puzzles"', ""), "given twice"),
        (SPECIAL.replace('category = "logic"\n', "", 1), "number 1 .* has no category; add it"),
        (SPECIAL.replace("List the cases.", " "), "instruction is empty"),
        (
            SPECIAL.replace("sub_category", "subcategory"),
            "unknown key 'subcategory'; did you mean 'sub_category'",
        ),
    ],
)
def test_a_mistake_in_calls_or_special_instructions_is_one_line(
    tmp_path: Path, more: str, word: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(WHOLE + more)
    with pytest.raises(ValueError, match=word) as caught:
        load_strategies(str(file))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.touch() or os.truncate(path, 200 << 30),
    ],
)
@pytest.mark.parametrize("load", [load_strategies, load_taxonomy])
def test_a_file_of_texts_that_is_no_regular_file_is_one_line(
    tmp_path: Path, make: Callable[[Path], object], load: Callable[[str], object]
) -> None:
    path = tmp_path / "texts.toml"
    make(path)
    with pytest.raises(ValueError, match=r"texts\.toml") as found:
        load(str(path))
    assert "\n" not in str(found.value)


def test_strategies_that_are_nowhere_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is there"):
        load_strategies(str(tmp_path / "none.toml"))
