from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.argument_checks import LOAD_FORMATS
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.engine_arguments import (
    SPEED,
    argument_models,
    data_parallel_size,
    row_arguments,
    times_devices,
)
from orca2_gen.config.load import load_config, read_config
from tests.conftest import Write

STUDENT = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "student"
DRAFT = "judge.engine_arguments.speculative_config.model"


@pytest.fixture
def judged_file(write_config: Write) -> Path:
    return write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n')


OPEN = "tasks.0.answer_type=open"
"""Without an open task a judge is not started, and its paths need not exist."""


def judge_of(file: Path, *overrides: str) -> VLLMEngineConfig:
    judge = load_config(file, [OPEN, *overrides]).judge
    assert isinstance(judge, VLLMEngineConfig)
    return judge


def test_a_drafts_path_counts_from_the_config_and_that_of_set_from_the_working_directory(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "elsewhere"):
        shutil.copytree(STUDENT, folder / "draft")
    file = write_config(
        sections=f'[judge]\nmodel = "{STUDENT}"\n'
        "[judge.engine_arguments.speculative_config]\nmodel = 'draft'\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    for overrides, folder in (([], tmp_path), ([f"{DRAFT}=draft"], tmp_path / "elsewhere")):
        found = dict(argument_models(judge_of(file, *overrides).engine_arguments))
        assert found == {"speculative_config.model": str(folder / "draft")}


@pytest.mark.parametrize("model", ["ngram", "[ngram]", "suffix"])
def test_the_name_of_a_method_is_no_path(judged_file: Path, model: str) -> None:
    judge = judge_of(judged_file, f"{DRAFT}={model}")
    assert judge.engine_arguments == {"speculative_config": {"model": model}}


@pytest.mark.parametrize("model", ["org/draft", "/no/such", "~/no-such", "evil.Proposer"])
def test_a_draft_that_is_no_directory_here_is_refused_by_its_key(
    judged_file: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # `.` is the folder of the run directory, which a run may not lie in.
    with pytest.raises(
        ValueError, match=rf"{DRAFT}(: no directory at|: .*, where the run itself writes|, )"
    ):
        load_config(judged_file, [OPEN, f"{DRAFT}={model}"])


@pytest.mark.parametrize("model", ["s3://bucket/draft", "hf://org/draft", "https://host/draft"])
def test_a_draft_at_an_address_is_refused(judged_file: Path, model: str) -> None:
    with pytest.raises(ValueError, match=rf"{DRAFT} is .*: an address"):
        load_config(judged_file, [OPEN, f"{DRAFT}={model}"])


@pytest.mark.parametrize("place", ["hf_overrides.x", "mm_processor_kwargs.x.y", "model_impl"])
def test_a_path_in_any_other_argument_is_a_models_directory_too(
    judged_file: Path, place: str
) -> None:
    key = f"judge.engine_arguments.{place}"
    with pytest.raises(ValueError, match=f"{key}: no directory at /etc/passwd; models are never"):
        load_config(judged_file, [OPEN, f"{key}='/etc/../etc/passwd'"])
    found = judge_of(judged_file, f"{key}='{STUDENT}/.'").engine_arguments
    assert dict(argument_models(found)) == {place: str(STUDENT)}


@given(
    speed=st.dictionaries(st.sampled_from(sorted(SPEED)), st.integers(1, 4)),
    rows=st.dictionaries(st.sampled_from(["moe_backend", "hf_overrides", "new"]), st.text()),
)
def test_all_arguments_but_those_of_speed_determine_rows(
    speed: dict[str, Any], rows: dict[str, Any]
) -> None:
    rows = {name: text.replace("/", "") + "." * (text in ("~", ".")) for name, text in rows.items()}
    rows = {name: "" if text == ".." else text for name, text in rows.items()}
    assert row_arguments({**speed, **rows}, {}) == (rows or None)


def test_a_model_in_an_argument_is_known_by_its_digest_alone() -> None:
    def rows(path: str, digest: str, tokens: int = 4) -> str:
        arguments = {"speculative_config": {"model": path, "num_speculative_tokens": tokens}}
        arguments["hf_overrides"] = {"drafts": [path]}
        return json.dumps(row_arguments(arguments, {path: digest}))

    assert rows("/a/draft", "1") == rows("/b/draft", "1")
    assert rows("/a/draft", "1") != rows("/a/draft", "2")
    assert rows("/a/draft", "1") != rows("/a/draft", "1", tokens=5)
    assert 'draft"' not in rows("/a/draft", "1").replace('"drafts"', "")


@given(sizes=st.tuples(*[st.integers(1, 8)] * 4), max_num_seqs=st.integers(1, 64))
def test_every_parallel_size_multiplies_the_devices_and_data_parallel_ranks_the_batch(
    sizes: tuple[int, int, int, int], max_num_seqs: int
) -> None:
    tensor, pipeline, data, prefill = sizes
    config = VLLMEngineConfig(
        model="/models/student",
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        max_num_seqs=max_num_seqs,
        engine_arguments={"data_parallel_size": data, "prefill_context_parallel_size": prefill},
    )
    assert config.ranks == tensor * pipeline * data * prefill
    assert config.ranks == tensor * pipeline * times_devices(config.engine_arguments)
    assert config.sequences == max_num_seqs * data_parallel_size(config.engine_arguments)
    plain = VLLMEngineConfig(model="/models/student", max_num_seqs=max_num_seqs)
    assert (plain.ranks, plain.sequences) == (1, max_num_seqs)


def test_the_docs_list_the_arguments_of_speed_and_the_load_formats() -> None:
    text = (STUDENT.parents[2] / "docs" / "models.md").read_text()
    named = set(re.findall(r"`(\w+)`", text[text.index("**Stage keys.**") :]))
    assert set(SPEED) <= named and named <= {*SPEED, "hf_overrides"}
    assert set(LOAD_FORMATS) <= set(re.findall(r"`(\w+)`", text))


def test_a_config_without_arguments_reads_as_before(judged_file: Path) -> None:
    assert judge_of(judged_file).engine_arguments == {}
    with pytest.raises(ValueError, match=r"judge\.engine_arguments: expected a table of vLLM's"):
        read_config(judged_file, ["judge.engine_arguments=[1]"])
