from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.engine_arguments import DEVICES, REFUSED, SPEED
from orca2_gen.config.load import load_config
from orca2_gen.config.vllm_fields import installed_fields
from orca2_gen.mistakes.spelling import nearest
from orca2_gen.preflight.engine_fields import check_fields
from orca2_gen.provenance.inputs import read_texts
from tests.config.test_argument_checks import USEFUL
from tests.conftest import Write

FIELDS = installed_fields()
assert FIELDS is not None
NAMES = sorted(FIELDS.arguments)
STUDENT = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "student"


@pytest.mark.parametrize("name", [*USEFUL, *DEVICES])
def test_an_argument_of_the_installed_vllm_is_let_through(name: str) -> None:
    check_fields("student", {name: USEFUL.get(name, 2)})


def test_the_names_that_the_program_knows_are_vllms() -> None:
    assert FIELDS is not None
    assert {*REFUSED, *SPEED, *DEVICES} <= set(FIELDS.arguments)
    assert not any(name.startswith("_") for name in FIELDS.arguments)


@given(name=st.sampled_from(NAMES), at=st.integers(0, 40), letter=st.sampled_from("xqz"))
def test_a_misspelt_argument_is_refused_with_the_nearest_name(
    name: str, at: int, letter: str
) -> None:
    assume(len(name) > 8)
    at %= len(name)
    misspelt = name[:at] + letter + name[at + 1 :]
    assume(misspelt not in NAMES)
    with pytest.raises(ValueError, match=rf"^teacher\.engine_arguments\.{misspelt}: ") as found:
        check_fields("teacher", {misspelt: 1})
    # Some names differ from each other by less than a letter.
    assert f"did you mean {nearest(misspelt, NAMES)!r}?" in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            {"speculativ_config": {}},
            "student.engine_arguments.speculativ_config: the installed vLLM's AsyncEngineArgs has "
            "no such key; did you mean 'speculative_config'?",
        ),
        (
            {"async-scheduling": True},
            "student.engine_arguments.async-scheduling: the installed vLLM's AsyncEngineArgs has "
            "no such key; did you mean 'async_scheduling'?",
        ),
        (
            {"rope_scaling": {"factor": 4.0}},
            "student.engine_arguments.rope_scaling: the installed vLLM's AsyncEngineArgs has no "
            "such key; set it in hf_overrides, e.g. { rope_scaling = ... }",
        ),
        (
            {"no_such_thing_at_all": 1},
            "student.engine_arguments.no_such_thing_at_all: the installed vLLM's AsyncEngineArgs "
            "has no such key; remove it or check its spelling",
        ),
        (
            {"speculative_config": {"num_speculativ_tokens": 4}},
            "student.engine_arguments.speculative_config.num_speculativ_tokens: the installed "
            "vLLM's SpeculativeConfig has no such key; did you mean 'num_speculative_tokens'?",
        ),
        (
            {"compilation_config": {"pass_config": {"fuse_norm_qant": True}}},
            "student.engine_arguments.compilation_config.pass_config.fuse_norm_qant: the installed "
            "vLLM's PassConfig has no such key; did you mean 'fuse_norm_quant'?",
        ),
        (
            {"cpu_offload_gb": "4"},
            "student.engine_arguments.cpu_offload_gb is '4': expected a number",
        ),
        (
            {"enable_expert_parallel": 1},
            "student.engine_arguments.enable_expert_parallel is 1: expected true or false",
        ),
        (
            {"compilation_config": 3},
            "student.engine_arguments.compilation_config is 3: expected a table",
        ),
        (
            {"cudagraph_capture_sizes": {}},
            "student.engine_arguments.cudagraph_capture_sizes is a table: expected a list",
        ),
    ],
)
def test_what_the_installed_vllm_does_not_take_is_one_line(
    arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError) as found:
        check_fields("student", arguments)
    assert str(found.value) == line


def test_the_question_is_asked_before_any_other_of_a_run(write_config: Write) -> None:
    config = load_config(write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n'))
    assert config.judge is not None
    judge = config.judge.model_copy(update={"engine_arguments": {"asinc_scheduling": True}})
    with pytest.raises(ValueError, match=r"judge\.engine_arguments\.asinc_.* 'async_scheduling'"):
        read_texts(config.model_copy(update={"judge": judge}))


def test_without_a_vllm_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    installed_fields.cache_clear()
    try:
        check_fields("student", {"no_such_thing": 1})
    finally:
        installed_fields.cache_clear()


def test_vllm_is_read_and_not_imported() -> None:
    asked = "check_fields('student', {'async_scheduling': True})"
    code = (
        "import sys; from orca2_gen.preflight.engine_fields import check_fields\n"
        f"{asked}\nassert not {{'vllm', 'torch'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        ({"load_format": "fastsafetensors"}, "fastsafetensors"),
        ({"load_format": "runai_streamer_sharded"}, "runai_model_streamer"),
        ({"speculative_config": {"method": "suffix"}}, "arctic_inference"),
    ],
)
def test_a_value_that_needs_a_package_which_is_not_installed_is_refused(
    arguments: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    with pytest.raises(ValueError, match=rf"vLLM needs the package {package}; install it on every"):
        check_fields("student", arguments)


def test_the_example_of_the_documentation_is_taken() -> None:
    page = (STUDENT.parents[2] / "docs" / "models.md").read_text()
    [example] = re.findall(
        r"```toml\n(.*?)```", page[page.index("## Engine arguments") :], re.DOTALL
    )
    for role, section in tomllib.loads(example).items():
        engine = VLLMEngineConfig(**section)
        assert engine.engine_arguments
        check_fields(role, engine.engine_arguments)
