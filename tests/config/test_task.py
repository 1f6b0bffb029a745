from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.load import load_config, resolved
from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig, check_held_out
from tests.conftest import Write

HELD_OUT = "[[evaluation.tasks]]\nname = 'e'\nformat = 'jsonl'\npath = 'letters.jsonl'\n"


def task_of(few_shot: object) -> TaskConfig:
    return TaskConfig.model_validate(
        {"name": "t", "format": "jsonl", "path": "/t.jsonl", "few_shot": few_shot}
    )


@given(least=st.integers(-2, 20), most=st.integers(-2, 20))
def test_few_shot_is_a_least_and_a_most_number_from_1_to_16(least: int, most: int) -> None:
    if 1 <= least <= most <= 16:
        assert task_of([least, most]).few_shot == (least, most)
    else:
        with pytest.raises(ValueError, match="few_shot"):
            task_of([least, most])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tasks.0.few_shot=[5, 3]", ["tasks.0.few_shot", "least", "[5, 3]"]),
        ("tasks.0.few_shot=[3]", ["tasks.0.few_shot"]),
        ("tasks.0.few_shot=[1, 2, 3]", ["tasks.0.few_shot"]),
        ("tasks.0.few_shot=4", ["tasks.0.few_shot", "4"]),
        ("tasks.0.few_shot=[0, 3]", ["tasks.0.few_shot.0", "0"]),
        ("tasks.0.few_shot=[3, 17]", ["tasks.0.few_shot.1", "17"]),
        ("evaluation.tasks.0.few_shot=[3, 5]", ["evaluation.tasks", "'e'", "take the key out"]),
        ("tasks.1.few_shot=[3, 5]", ["'letters'", "letters.jsonl", "'e'", "evaluation.tasks"]),
    ],
)
def test_a_mistake_about_examples_is_one_line_that_names_the_task(
    write_config: Write, override: str, expected: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        load_config(write_config(sections=HELD_OUT), [override])
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in expected), str(caught.value)


def test_a_held_out_file_stays_allowed_for_a_zero_shot_task(write_config: Write) -> None:
    config = load_config(write_config(sections=HELD_OUT), ["tasks.0.few_shot=[3, 5]"])
    assert config.tasks[0].few_shot == (3, 5) and config.tasks[1].few_shot is None
    assert Config.model_validate(json.loads(json.dumps(resolved(config)))) == config


def test_one_path_spelled_in_two_ways_is_the_same_file(write_config: Write, tmp_path: Path) -> None:
    sections = HELD_OUT.replace("'letters", f"'../{tmp_path.name}/letters")
    with pytest.raises(ValueError, match=r"of evaluation\.tasks too"):
        load_config(write_config(sections=sections), ["tasks.1.few_shot=[3, 5]"])


def test_tasks_that_share_no_file_may_be_together() -> None:
    other = task_of(None).model_copy(update={"path": "/e.jsonl"})
    check_held_out([task_of([3, 5])], [other])
    check_held_out([task_of([3, 5])], [])
