from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.config.engine import ScriptedEngineConfig, VLLMEngineConfig
from orca2_gen.config.load import read_config
from orca2_gen.config.schema import Config
from orca2_gen.config.section import Section, sections_in
from tests.conftest import write_run_config
from tests.faults.mistaken import JARGON


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every key of a config, with 0 for the place in a list."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        for below in sections_in(field.annotation):
            is_list = "tuple" in str(field.annotation)
            yield from keys_of(below, f"{prefix}{name}.0." if is_list else f"{prefix}{name}.")


KEYS = sorted(set(keys_of(Config)) - {"evaluation.tasks.0.name"})
KEYS = [key for key in KEYS if not key.startswith("evaluation.tasks.0.")]
VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "x", "a b", "1", "true", "\u00e9", "\x00", "s3://a/b", "~", "race"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


def toml(value: Any) -> str:
    if isinstance(value, float):
        shown = "nan" if math.isnan(value) else repr(value)
        return shown.replace("e", ".0e") if "e" in shown and "." not in shown else shown
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    return write_run_config(tmp_path_factory.mktemp("wording"), chatml_dir)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key_is_taken_as_it_is_or_refused_in_one_plain_line(
    file: Path, key: str, value: Any
) -> None:
    try:
        config: Any = read_config(file, [f"{key}={toml(value)}"])
    except ValueError as error:
        line = str(error)
        assert "\n" not in line and len(line) < 1000
        assert not [word for word in JARGON if word in line], line
        return
    for name in key.split("."):
        config = config[int(name)] if name.isdigit() else getattr(config, name)
    if isinstance(value, bool | int | float):
        assert config == value and isinstance(config, bool) == isinstance(value, bool)
        assert not isinstance(value, float) or math.isfinite(value)


def test_a_secret_in_env_is_not_shown_whatever_its_type(file: Path) -> None:
    for value in ("['hunter2']", "{a='hunter2'}", "98765"):
        student = f"student={{model='m', env={{OMP_NUM_THREADS={value}}}}}"
        with pytest.raises(ValueError, match=r"student.env.OMP_NUM_THREADS") as refused:
            read_config(file, [student])
        assert "hunter2" not in str(refused.value) and "98765" not in str(refused.value)


ENGINES = {"vllm": VLLMEngineConfig, "scripted": ScriptedEngineConfig}


@pytest.mark.parametrize("role", ["student", "teacher", "judge"])
@pytest.mark.parametrize(("mine", "other"), [("vllm", "scripted"), ("scripted", "vllm")])
def test_a_key_of_the_other_kind_of_engine_is_said_to_be_one(
    file: Path, role: str, mine: str, other: str
) -> None:
    needed = {"vllm": {"model": "m"}, "scripted": {"tokenizer": "t"}}[mine]
    keys = ENGINES[other].model_fields.keys() - ENGINES[mine].model_fields.keys()
    for key in keys - {"tokenizer"}:  # vLLM has such an argument, and its refusal says why
        section = {"engine": mine, **needed, key: 1}
        with pytest.raises(ValueError, match="goes with engine") as refused:
            read_config(file, [f"{role}={toml(section)}"])
        assert f"key '{role}.{key}' goes with engine = \"{other}\"" in str(refused.value)
        assert f'[{role}] has engine = "{mine}"' in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        "student.engine_arguments",
        "student.template_arguments",
        "student.env",
        "teacher.accuracy",
        "tasks.0.columns",
        "training.max_rows_per_task",
        "student",
        "tasks.0",
        "training",
    ],
)
@given(name=st.sampled_from(["vllm", "scripted", "str", "bool", "int", "tuple", "list"]))
def test_a_key_that_its_author_named_like_a_type_is_named_in_the_message(
    file: Path, place: str, name: str
) -> None:
    engines = ['student={engine="vllm", model="m"}', 'teacher={engine="scripted", tokenizer="t"}']
    with pytest.raises(ValueError, match=re.escape(place)) as refused:
        read_config(file, [*engines, f"{place}.{name}=1979-05-27"])
    line = str(refused.value)
    assert f"{place}.{name}" in line or f"{name} is" in line or f"{name!r}" in line, line
