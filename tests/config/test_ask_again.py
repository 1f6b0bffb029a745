"""Forced endings are asked for in new runs, and in an older one as it says, whoever goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config, read_config
from tests.conftest import Write


def record(run_dir: Path, config_file: Path, ask_again: str | None) -> Path:
    """The run directory, with the config.json of a run that recorded this value, or none."""
    config = read_config(config_file).model_dump(mode="json")
    config["scoring"]["ask_again"] = ask_again
    if ask_again is None:
        del config["scoring"]["ask_again"], config["scoring"]["answer_max_tokens"]
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({"config": config, "stages": {}}))
    return run_dir


EXPECTED = {"answer": "answer", "none": "none", None: "none"}
"""What a run recorded -> what whoever continues it does."""


def test_a_new_run_asks_again(write_config: Write) -> None:
    scoring = load_config(write_config()).scoring
    assert (scoring.ask_again, scoring.ending_tokens) == ("answer", 32)


@pytest.mark.parametrize("recorded", EXPECTED)
def test_a_run_goes_on_as_it_began(write_config: Write, recorded: str | None) -> None:
    file = write_config()
    run_dir = record(Path(read_config(file).run_dir), file, recorded)
    assert load_config(file).scoring.ask_again == EXPECTED[recorded]
    found = load_config(run_dir / "config.json").scoring
    assert found.ask_again == EXPECTED[recorded]
    assert (found.ending_tokens is None) == (EXPECTED[recorded] == "none")


@pytest.mark.parametrize("recorded", EXPECTED)
def test_a_fork_or_a_regraded_run_does_as_its_source(
    write_config: Write, tmp_path: Path, recorded: str | None
) -> None:
    file = write_config()
    source = record(tmp_path / "source", file, recorded)
    other = record(tmp_path / "other", file, "answer")
    elsewhere = [f"run_dir={tmp_path / 'new'}"]
    assert load_config(file, elsewhere).scoring.ask_again == "answer"
    found = load_config(file, elsewhere, source=source)
    assert found.scoring.ask_again == EXPECTED[recorded]
    found = load_config(file, [f"run_dir={other}"], source=source)
    assert found.scoring.ask_again == EXPECTED[recorded]
    # A record says it without being named as the source.
    found = load_config(source / "config.json", elsewhere)
    assert found.scoring.ask_again == EXPECTED[recorded]


@pytest.mark.parametrize("recorded", EXPECTED)
@pytest.mark.parametrize("written", ["answer", "none"])
def test_what_the_config_says_itself_comes_first(
    write_config: Write, recorded: str | None, written: str
) -> None:
    file = write_config()
    record(Path(read_config(file).run_dir), file, recorded)
    found = load_config(file, [f"scoring.ask_again={written}"])
    assert found.scoring.ask_again == written


@pytest.mark.parametrize("body", ["", "{", "[]", '{"config": {"scoring": 7}}'])
def test_a_record_that_cannot_be_read_says_nothing(write_config: Write, body: str) -> None:
    file = write_config()
    run_dir = Path(read_config(file).run_dir)
    run_dir.mkdir()
    (run_dir / "config.json").write_text(body)
    assert load_config(file).scoring.ask_again == "answer"


@pytest.mark.parametrize("written", ["yes", "true", "0"])
def test_another_value_is_refused_in_one_line(write_config: Write, written: str) -> None:
    with pytest.raises(ValueError, match=r"scoring\.ask_again") as refused:
        load_config(write_config(), [f"scoring.ask_again={written}"])
    assert "\n" not in str(refused.value)
