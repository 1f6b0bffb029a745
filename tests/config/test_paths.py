from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from tests.conftest import Write


def test_a_tilde_is_the_home_directory_in_every_path(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config()
    monkeypatch.setenv("HOME", str(tmp_path))
    sets = ["run_dir=~/one", "training.output=~/two", "tasks.0.path=~/sums.jsonl"]
    config = load_config(file, sets)
    assert config.run_dir == str(tmp_path / "one")
    assert config.training.output == str(tmp_path / "two")
    assert config.tasks[0].path == str(tmp_path / "sums.jsonl")


@pytest.mark.parametrize("key", ["run_dir", "training.output", "tasks.0.path", "strategies"])
@pytest.mark.parametrize("address", ["s3://b/x", "gs://b/x", "hdfs://h/x", "file:///x", "s3:/b"])
def test_an_address_is_no_path(write_config: Write, key: str, address: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is {address}: an address"):
        load_config(write_config(), [f"{key}={address}"])


def test_run_dir_and_output_stay_relative_to_where_the_command_starts(write_config: Write) -> None:
    config = load_config(write_config(), ["run_dir=runs/one", "training.output=runs/two"])
    assert (config.run_dir, config.training.output) == ("runs/one", "runs/two")


@pytest.mark.parametrize(
    "output", ["run/student", "run/student-2", "run/ablation/x", "elsewhere", "run-2/student"]
)
def test_a_student_may_stand_in_the_run_directory_or_anywhere_free(
    write_config: Write, tmp_path: Path, output: str
) -> None:
    config = load_config(write_config(), [f"training.output={tmp_path / output}"])
    assert config.training.output == str(tmp_path / output)


def test_a_training_may_go_on_from_a_student_of_the_same_run(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    (tmp_path / "run" / "student").mkdir(parents=True)
    start = f"training.model={tmp_path / 'run' / 'student'}"
    load_config(file, [start, f"training.output={tmp_path / 'run' / 'student-2'}"])
    with pytest.raises(ValueError, match=r"training.output and training.model are the same"):
        load_config(file, [start, f"training.output={tmp_path / 'run' / 'student'}"])
