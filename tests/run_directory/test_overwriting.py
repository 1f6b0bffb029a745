from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca2_gen.chat import Chat
from orca2_gen.run_directory.unlisted import SET_ASIDE
from orca2_gen.strategies import Strategies
from tests.dataset.test_write import build, contents

SHARD = "data-00000-of-00003.arrow"


def saved(folder: Path) -> dict[str, bytes]:
    """Somebody's own dataset in a folder, file by file."""
    import datasets

    datasets.Dataset.from_dict({"text": ["mine"] * 9}).save_to_disk(folder, num_shards=3)
    names = (*folder.glob("data-*"), folder / "state.json", folder / "dataset_info.json")
    return {path.name: path.read_bytes() for path in names}


def set_aside(run_dir: Path) -> dict[str, bytes]:
    folder = run_dir / SET_ASIDE / "dataset"
    return {path.name: path.read_bytes() for path in folder.glob("*")}


@pytest.fixture
def whole(tmp_path: Path, chatml: Chat, strategies: Strategies) -> dict[str, bytes]:
    """The bytes of a dataset in another run directory."""
    build(tmp_path / "other", chatml, strategies)
    return bytes_of(tmp_path / "other")


def bytes_of(run_dir: Path) -> dict[str, bytes]:
    return {name: body for name, (body, _) in contents(run_dir).items()}


@pytest.mark.parametrize("is_made_before", [True, False])
def test_somebodys_dataset_in_place_of_ours_is_set_aside_byte_for_byte(
    tmp_path: Path,
    chatml: Chat,
    strategies: Strategies,
    whole: dict[str, bytes],
    is_made_before: bool,
) -> None:
    if is_made_before:
        build(tmp_path, chatml, strategies)
    mine = saved(tmp_path / "dataset")
    build(tmp_path, chatml, strategies)
    kept = set_aside(tmp_path)
    assert all(kept[name] == body for name, body in mine.items())
    assert bytes_of(tmp_path) == whole


def test_a_file_of_another_name_stays_where_it_is(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    (tmp_path / "dataset").mkdir()
    for name in ("notes.txt", "data-mine.arrow", "data-00000-of-00001.arrow.bak"):
        (tmp_path / "dataset" / name).write_text(name)
    build(tmp_path, chatml, strategies)
    for name in ("notes.txt", "data-mine.arrow", "data-00000-of-00001.arrow.bak"):
        assert (tmp_path / "dataset" / name).read_text() == name
    assert not (tmp_path / SET_ASIDE).exists()


def test_the_unfinished_work_of_a_killed_driver_is_written_over(
    tmp_path: Path, chatml: Chat, strategies: Strategies, whole: dict[str, bytes]
) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    (tmp_path / ".writing-dataset.json").touch()
    (root / SHARD).write_bytes(b"half a shard")
    (root / "data-00001-of-00009.arrow").write_bytes(b"of a dataset with more shards")
    build(tmp_path, chatml, strategies)
    assert bytes_of(tmp_path) == whole
    assert not (tmp_path / SET_ASIDE).exists()


@pytest.mark.parametrize("kind", ["directory", "link", "dangling link"])
def test_what_is_no_file_is_set_aside_too(
    tmp_path: Path, chatml: Chat, strategies: Strategies, whole: dict[str, bytes], kind: str
) -> None:
    target, place = tmp_path / "theirs", tmp_path / "dataset" / SHARD
    place.parent.mkdir()
    if kind == "directory":
        place.mkdir()
    else:
        place.symlink_to(target)
    if kind == "link":
        target.write_text("theirs")
    build(tmp_path, chatml, strategies)
    assert bytes_of(tmp_path) == whole
    assert os.path.lexists(tmp_path / SET_ASIDE / "dataset" / SHARD)
    assert kind != "link" or target.read_text() == "theirs"


def test_a_file_in_place_of_the_directory_is_set_aside(
    tmp_path: Path, chatml: Chat, strategies: Strategies, whole: dict[str, bytes]
) -> None:
    (tmp_path / "dataset").write_text("mine")
    build(tmp_path, chatml, strategies)
    assert bytes_of(tmp_path) == whole
    assert (tmp_path / SET_ASIDE / "dataset").read_text() == "mine"
