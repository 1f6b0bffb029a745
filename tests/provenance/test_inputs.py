"""Files that determine rows and change during a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.config.arguments import rooms
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import FAILED, exit_code
from orca2_gen.provenance import inputs as inputs_module
from orca2_gen.provenance.inputs import (
    TaskWatch,
    check_engine,
    read_inputs,
    recorded_chat,
    with_engine,
)
from orca2_gen.run_directory.digests import ChangedInput
from orca2_gen.strategies import OWN_FILE
from ray_jobs.dispatch.leases import ReadLease
from ray_jobs.file_stages import read_problems
from tests.conftest import SHORT, Write, with_long_context

MICROWORLD = OWN_FILE.with_name("microworld")


@pytest.fixture
def config(write_config: Write, tmp_path: Path, chatml_dir: Path) -> Config:
    """A run's config whose tokenizer may be changed."""
    tokenizer = shutil.copytree(chatml_dir, tmp_path / "tokenizer")
    return load_config(
        write_config(), [f"{role}.tokenizer={tokenizer}" for role in ("student", "teacher")]
    )


def append(file: Path, text: str = "\n") -> None:
    file.write_text(file.read_text() + text)


def put(file: Path, text: str) -> None:
    file.write_text(text)


def test_unchanged_files_are_what_was_recorded(config: Config) -> None:
    inputs = read_inputs(config)
    assert recorded_chat(inputs, config.student.model_dump()["tokenizer"]).digest
    TaskWatch(inputs, config.tasks).check()


@pytest.mark.parametrize(
    ("change", "is_usable"),
    [
        (lambda folder: append(folder / "chat_template.jinja", "{{ '!' }}"), True),
        (lambda folder: append(folder / "tokenizer.json"), True),
        (lambda folder: put(folder / "generation_config.json", '{"eos_token_id": 0}'), True),
        (lambda folder: put(folder / "tokenizer.json", '{"half": '), False),
        (lambda folder: (folder / "chat_template.jinja").unlink(), False),
    ],
    ids=["template", "tokenizer", "end ids", "half a tokenizer", "no template"],
)
@pytest.mark.parametrize("is_loaded", [True, False], ids=["loaded before", "not loaded"])
def test_a_changed_tokenizer_or_template_is_refused_in_one_line(
    config: Config,
    tmp_path: Path,
    change: Callable[[Path], object],
    is_usable: bool,
    is_loaded: bool,
) -> None:
    inputs, folder = read_inputs(config), tmp_path / "tokenizer"
    if is_loaded:
        recorded_chat(inputs, str(folder))
    change(folder)
    if not is_loaded:
        with pytest.raises(ChangedInput, match=f"{folder} has changed since") as caught:
            recorded_chat(inputs, str(folder))
        assert "\n" not in str(caught.value) and exit_code(caught.value) == FAILED
    # Whoever begins now records what is there now, whatever this process has loaded before.
    if is_usable:
        assert read_inputs(config).tokenizers != inputs.tokenizers
    else:
        with pytest.raises(ValueError, match=f"student.tokenizer: {folder}"):
            read_inputs(config)
    # An engine that is added later, to be evaluated, does not replace what was recorded.
    assert with_engine(inputs, config.student).tokenizers == inputs.tokenizers


def test_changed_weights_are_refused_and_a_scripted_engine_has_none(
    config: Config, write_config: Write, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(MICROWORLD / "student", tmp_path / "model"))
    file = write_config(tmp_path / "own")
    body = file.read_text()
    start = body.index("[student]")
    file.write_text(
        body[:start] + f'[student]\nmodel = "{model}"\n' + body[body.index("[teacher]") :]
    )
    real = load_config(file, SHORT)
    inputs = read_inputs(real)
    check_engine(inputs, real.student)
    check_engine(inputs, real.teacher)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[:-1] + b"\1", whole[:100], None):
        weights.unlink()
        if broken is not None:
            weights.write_bytes(broken)
        else:
            weights.write_bytes(whole)
            append(model / "tokenizer_config.json")  # vLLM reads it too
        with pytest.raises(ChangedInput, match=f"{model} has changed since"):
            check_engine(inputs, real.student)


def test_a_changed_draft_is_refused_like_changed_weights(
    write_config: Write, tmp_path: Path
) -> None:
    draft = Path(shutil.copytree(MICROWORLD / "student", tmp_path / "draft"))
    arguments = f"{{ speculative_config = {{ model = '{draft}', num_speculative_tokens = 2 }} }}"
    student = f"{{ model = '{MICROWORLD / 'student'}', engine_arguments = {arguments} }}"
    real = load_config(write_config(), [f"student={student}", *SHORT])
    inputs = read_inputs(real)
    assert str(draft) in inputs.models
    check_engine(inputs, real.student)
    (draft / "model.safetensors").write_bytes(b"")
    with pytest.raises(ChangedInput, match=f"{draft} has changed since"):
        check_engine(inputs, real.student)
    (draft / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"student\.engine_arguments\.speculative_config\.model: "):
        read_inputs(real)


def test_a_task_file_that_changed_before_it_is_read_is_refused(config: Config) -> None:
    inputs = read_inputs(config)
    append(Path(config.tasks[0].path))
    with pytest.raises(ChangedInput, match=r"sums.jsonl has changed since"):
        TaskWatch(inputs, config.tasks)


def test_a_task_file_that_is_only_touched_has_not_changed(config: Config) -> None:
    watch = TaskWatch(read_inputs(config), config.tasks)
    file = Path(config.tasks[0].path)
    os.replace(shutil.copy(file, file.with_suffix(".new")), file)
    os.utime(file)
    watch.check()
    append(file)
    with pytest.raises(ChangedInput):
        watch.check()


@pytest.mark.parametrize("way", ["longer", "same size", "gone"])
def test_a_task_file_that_changes_while_it_is_read_gives_no_unit_after_that(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(inputs_module, "CHECK_SECONDS", 0.0)
    inputs, task = read_inputs(config), config.tasks[0]
    lease = ReadLease(
        task=task,
        rows_per_unit=4,
        rooms=rooms(config, inputs.strategies),
        stage="problems",
        stage_key="k",
        driver="0",
        committed=frozenset(),
    )
    receipts = read_problems(tmp_path / "run", config, inputs, lease)
    first = next(receipts)
    file = Path(task.path)
    body = file.read_bytes()
    if way == "longer":
        file.write_bytes(body + b"\n")
    elif way == "same size":
        file.write_bytes(body.replace(b"What is 27", b"What is 28"))
    else:
        file.unlink()
    with pytest.raises(ChangedInput, match=r"sums.jsonl has changed since"):
        list(receipts)
    assert first.unit == "sums-000000"


@pytest.mark.parametrize(
    ("policy", "needed"),
    [
        ("student_best", {"student", "teacher", "judge"}),
        ("teacher_best", {"teacher", "judge"}),
        ("random", {"student", "teacher"}),
    ],
)
def test_weights_are_recorded_of_exactly_the_models_that_rows_depend_on(
    write_config: Write, tmp_path: Path, policy: str, needed: set[str]
) -> None:
    for role in ("student", "teacher", "judge"):
        with_long_context("teacher" if role == "judge" else role, tmp_path / role)
        if role not in needed:
            (tmp_path / role / "model.safetensors").unlink()
    if "judge" in needed:  # it must be another model than the teacher
        weights = tmp_path / "judge" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    file = write_config(sections=f'[judge]\nmodel = "{tmp_path / "judge"}"\n')
    body = file.read_text().replace('answer_type = "numeric"', 'answer_type = "open"')
    start = body.index("[student]")
    body = (
        f'{body[:start]}[student]\nmodel = "{tmp_path / "student"}"\n'
        f'[teacher]\nmodel = "{tmp_path / "teacher"}"\n{body[body.index("[selection]") :]}'
    )
    file.write_text(body)
    inputs = read_inputs(load_config(file, [f"selection.policy={policy}"]))
    assert {Path(directory).name for directory in inputs.models} == needed
    assert {Path(directory).name for directory in inputs.tokenizers} == {
        "student",
        "teacher",
        "judge",
    }
