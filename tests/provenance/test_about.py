from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.provenance.about import About, about_run, carried_on, model_name
from orca2_gen.provenance.inputs import read_inputs
from tests.conftest import Write


def about_of(file: Path, *overrides: str) -> About:
    config = load_config(file, overrides)
    return about_run(config, read_inputs(config))


def test_what_the_config_states_of_licenses_is_recorded(write_config: Write) -> None:
    about = about_of(
        write_config(),
        "teacher.license=llama3.1",
        "tasks.0.license=mit",
        "tasks.1.language=de",
    )
    assert (about.models["teacher"].license, about.models["teacher"].license_from) == (
        "llama3.1",
        "config",
    )
    assert about.models["student"].license == ""
    assert about.tasks["sums"].license == "mit" and about.tasks["sums"].file == "sums.jsonl"
    assert about.tasks["letters"].language == "de"


def test_else_a_models_own_card_is(write_config: Write, chatml_dir: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(chatml_dir, tmp_path / "a-model"))
    (model / "README.md").write_text("---\nlicense: gemma\n---\n")
    about = about_of(write_config(), f"teacher.tokenizer={model}")
    found = about.models["teacher"]
    assert (found.name, found.license, found.license_from) == ("a-model", "gemma", "model card")


def test_no_path_and_no_secret_of_the_config_is_recorded(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config(
        sections='[[evaluation.tasks]]\nname="e"\nformat="jsonl"\npath="letters.jsonl"'
    )
    about = about_of(
        file,
        'student.template_arguments={tools = "/srv/tools.json", said = "see ~/notes and ./x/y"}',
        f"run_dir={tmp_path}/elsewhere",
    )
    text = json.dumps(dataclasses.asdict(about))
    assert str(tmp_path) not in text
    assert not [path for path in ("/srv", "tools.json", "~/notes", "./x") if path in text]
    assert about.held_out[0].file == "held.jsonl"
    assert about.settings["student"]["template_arguments"]["tools"] == "(a path)"
    assert not {"env", "engine_arguments", "replicas", "run_dir"} & set(about.settings["student"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/qwen-0.5b", "qwen-0.5b"),
        ("/hub/models--Qwen--Qwen3-8B/snapshots/0123abc", "Qwen/Qwen3-8B"),
        ("/x/snapshots/0123abc", "0123abc"),
        ("/", "root"),
    ],
)
def test_a_models_name_is_the_end_of_its_path_or_the_hubs(path: str, name: str) -> None:
    assert model_name(Path(path)) == name


def test_a_later_command_changes_only_what_the_config_states(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    file = write_config()
    first = dataclasses.replace(about_of(file, "tasks.0.license=mit"), versions=((("vllm", "1"),),))
    moved = Path(shutil.copytree(chatml_dir, tmp_path / "moved"))
    (moved / "README.md").write_text("---\nlicense: gemma\n---\n")
    later = about_of(
        file,
        f"student.tokenizer={moved}",
        "teacher.license=mit",
        "tasks.0.license=apache-2.0",
        "student.max_num_seqs=7",
        "rationales.keep_refused=false",
    )
    found = carried_on(first, later, is_same_run=True)
    assert found.models["student"] == first.models["student"]
    assert found.models["teacher"].license == "mit"
    assert found.tasks["sums"].license == "apache-2.0"
    assert (found.settings, found.versions) == (first.settings, first.versions)
    other = carried_on(first, later, is_same_run=False)
    assert other == dataclasses.replace(later, versions=first.versions)


@pytest.mark.parametrize("license", ["", " mit", "a\nb", "x" * 101, "a\u2028b", "\x1b[0m"])
@pytest.mark.parametrize("key", ["tasks.0.license", "student.license"])
def test_a_license_is_one_short_line(write_config: Write, key: str, license: str) -> None:
    with pytest.raises(ValueError, match=f"{key}.*license"):
        load_config(write_config(), [f"{key}={json.dumps(license)}"])


@pytest.mark.parametrize("language", ["english please", "EN", "", "e"])
def test_a_language_is_a_code(write_config: Write, language: str) -> None:
    with pytest.raises(ValueError, match="language"):
        load_config(write_config(), [f"tasks.0.language={json.dumps(language)}"])
