from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orca2_gen.config.arguments import task_source
from orca2_gen.config.load import load_config
from tests.conftest import Call

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the microworld's models and some of its tasks, as a user's may look."""
    folder = tmp_path_factory.mktemp("place")
    world = ROOT / "orca2_gen/microworld"
    for name in ("student", "teacher"):
        shutil.copytree(world / name, folder / "models" / name)
    (folder / "data").mkdir()
    for name in ("add.train", "river.train", "river.test"):
        [file] = (world / "tasks").glob(f"{name}.jsonl*")
        shutil.copy(file, folder / "data" / file.name.replace(".train", "_train"))
    return folder


def test_a_config_is_made_that_plan_accepts(
    orca2: Call, place: Path, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    monkeypatch.chdir(place)
    code, out, err = orca2("init", "made/first.toml")
    assert code == 0, err
    assert "next: orca2 plan made/first.toml" in out
    config = load_config(place / "made/first.toml", ())
    assert {(task.name, task.format) for task in config.tasks} == {
        ("add", "jsonl"),
        ("river", "jsonl"),
    }
    assert [task.path.name for task in map(task_source, config.evaluation.tasks)] == [
        "river.test.jsonl"
    ]
    code, out, err = orca2("plan", "made/first.toml")
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "data"], "no model for the student in data"),
        (["--teacher", "data"], "no model for the teacher in data"),
        (["--tasks", "nothing"], "no task file at nothing"),
        (["--tasks", "models"], "that a format reads"),
        (["--tasks", "data/river.test.jsonl"], "are for evaluation, such as data/river.test.jsonl"),
    ],
)
def test_what_is_missing_is_one_line_and_nothing_is_written(
    orca2: Call,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(place)
    code, _, err = orca2("init", "other.toml", *arguments)
    assert code == 2 and words in err.splitlines()[-1]
    assert not (place / "other.toml").exists() and not list(place.glob(".*"))


def test_a_config_that_cannot_work_is_not_left_in_the_way(
    orca2: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "models", tmp_path / "models")
    weights = tmp_path / "models/teacher/model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    monkeypatch.chdir(tmp_path)
    code, _, err = orca2("init", "first.toml", "--tasks", place / "data")
    assert code == 2 and "teacher" in err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_config_that_is_there_is_not_overwritten(
    orca2: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "mine.toml").write_text("mine")
    code, _, err = orca2("init", "mine.toml")
    assert code == 2 and "is there already" in err
    assert (place / "mine.toml").read_text() == "mine"
