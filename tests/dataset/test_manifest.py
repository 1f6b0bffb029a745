from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.dataset.manifest import checked_manifest, read_manifest
from orca2_gen.run_directory.arrow_files import DamagedFile

OLDER = Path(__file__).parents[1] / "older_run" / "RUN" / "dataset"
BODY: dict[str, Any] = json.loads((OLDER / "manifest.json").read_text())


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, the whole included."""
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with another one in one place."""
    if not place:
        return new
    body = json.loads(json.dumps(value))
    inner = body
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return body


def test_a_manifest_of_an_older_version_is_read_with_defaults() -> None:
    manifest = checked_manifest(OLDER)
    assert manifest.tokenizer_files is None and manifest.summary is not None
    assert [entry.path for entry in manifest.listed] == [
        "data-00000-of-00001.arrow",
        "state.json",
        "dataset_info.json",
    ]


@given(place=st.sampled_from(list(places(BODY))), new=st.sampled_from([{"a": [1]}, [1], 1.5, True]))
def test_a_value_of_another_type_anywhere_in_a_manifest_is_one_line_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], new: Any
) -> None:
    root = tmp_path_factory.mktemp("dataset")
    (root / "manifest.json").write_text(json.dumps(changed(BODY, place, new)))
    with pytest.raises(ValueError, match=r"manifest\.json") as found:
        read_manifest(root)
    assert "\n" not in str(found.value) and "make the dataset again" in str(found.value)


@pytest.mark.parametrize("key", ["version", "prompts", "tokenizer_digest", "files"])
def test_a_manifest_without_what_every_reader_needs_is_refused(tmp_path: Path, key: str) -> None:
    body = {name: value for name, value in BODY.items() if name != key}
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(DamagedFile, match=rf"manifest\.json lacks {key}"):
        read_manifest(tmp_path)


def test_the_digest_of_a_manifest_changes_with_each_of_its_values(tmp_path: Path) -> None:
    digests = []
    for prompts in ("erased", "foreign", "erased"):
        (tmp_path / "manifest.json").write_text(json.dumps(BODY | {"prompts": prompts}))
        digests.append(read_manifest(tmp_path).digest)
    assert digests[0] == digests[2] != digests[1]
