"""Copies are rejected in new runs, and in an older one as it says, whoever goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca2_gen.config.decontaminate import DecontaminateConfig
from orca2_gen.config.load import load_config, read_config, resolved
from orca2_gen.config.reference import config_reference
from orca2_gen.provenance.inputs import read_inputs
from orca2_gen.provenance.stage_keys import stage_determinants, stage_keys
from tests.conftest import Write

OTHER = '[[decontaminate.files]]\npath = "{}"\nformat = "jsonl"'


def record(config_file: Path, run_dir: Path, *, is_older: bool) -> Path:
    config = resolved(load_config(config_file))
    if is_older:
        del config["decontaminate"]
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({"config": config, "stages": {}}))
    return run_dir


def test_a_new_run_rejects_copies(write_config: Write) -> None:
    assert load_config(write_config()).decontaminate == DecontaminateConfig()


@pytest.mark.parametrize("is_older", [False, True])
def test_a_run_its_fork_and_its_record_go_on_as_it_began(
    write_config: Write, tmp_path: Path, is_older: bool
) -> None:
    file = write_config()
    run_dir = record(file, Path(read_config(file).run_dir), is_older=is_older)
    expected = None if is_older else DecontaminateConfig()
    assert load_config(file).decontaminate == expected
    elsewhere = [f"run_dir={tmp_path / 'new'}"]
    assert load_config(file, elsewhere, source=run_dir).decontaminate == expected
    assert load_config(run_dir / "config.json", elsewhere).decontaminate == expected
    assert load_config(file, elsewhere).decontaminate == DecontaminateConfig()
    said = load_config(file, ["decontaminate.duplicates=false"]).decontaminate
    assert said == DecontaminateConfig(duplicates=False)


def keys(file: Path, *sets: str) -> dict[str, str]:
    config = load_config(file, sets)
    return stage_keys(stage_determinants(config, read_inputs(config)))


def test_what_rejects_no_copy_is_no_part_of_a_key(write_config: Write) -> None:
    file = write_config()
    off = keys(file, "decontaminate.duplicates=false", "decontaminate.contamination=false")
    config = load_config(file).model_copy(update={"decontaminate": None})
    assert off == stage_keys(stage_determinants(config, read_inputs(config)))
    assert off == keys(
        file,
        "decontaminate.duplicates=false",
        "decontaminate.contamination=false",
        "decontaminate.near=ignore",
    )
    on = keys(file)
    assert on == keys(file, "decontaminate.near=ignore")
    assert on["problems"] != keys(file, "decontaminate.near=remove")["problems"]
    assert on["problems"] != off["problems"]
    assert on["evaluation_problems"] == off["evaluation_problems"]


def test_the_rows_of_held_out_files_are_part_of_the_key_of_problems(
    write_config: Write, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    found = []
    for answer in ("1", "2"):
        other.write_text(json.dumps({"question": "What is it?", "answer": answer}) + "\n")
        found.append(keys(write_config(sections=OTHER.format(other.name)))["problems"])
    moved = other.rename(tmp_path / "moved.jsonl")
    named = OTHER.format(moved.name) + '\nname = "other"'
    found.append(keys(write_config(sections=named))["problems"])
    assert found[0] != found[1] == found[2]


def test_a_held_out_file_is_found_from_the_config_and_checked(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config(sections=OTHER.format("a file.jsonl"))
    with pytest.raises(ValueError, match=r"decontaminate\.files\.0\.path: nothing at"):
        load_config(file)
    (tmp_path / "a file.jsonl").write_text('{"question": "What?", "answer": "this"}\n')
    [task] = load_config(file).held_out
    assert (task.name, task.split, task.path) == ("a-file", "test", str(tmp_path / "a file.jsonl"))
    (tmp_path / "a file.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no rows"):
        read_inputs(load_config(file))


def test_the_page_of_keys_has_the_section() -> None:
    assert "## `[[decontaminate.files]]`" in config_reference()
