from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import socket
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import Phase, given, settings

from orca2_gen.chat import Chat
from orca2_gen.dataset.croissant import CROISSANT, croissant_of
from orca2_gen.dataset.export import export
from orca2_gen.dataset.export_files import FORMATS, Bounds, Format
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.shapes import SHAPES, Shape
from orca2_gen.strategies import Strategies
from tests.dataset.test_export_card import dataset
from tests.dataset.test_write import build, examples_of
from tests.dataset.told_facts import manifests


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def read_croissant(given: dict[str, Any] | str) -> Any:
    """A croissant.json as mlcroissant reads it, without errors or warnings."""
    import mlcroissant

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    try:
        found = mlcroissant.Dataset(jsonld=given)
    finally:
        logger.removeHandler(handler)
    issues = found.metadata.issues
    warned = {*issues.warnings, *said}
    if found.metadata.date_published is None:  # rows that no run made have no day
        warned = {line for line in warned if "datePublished" not in line}
    assert (issues.errors, warned) == (set(), set())
    return found


@settings(max_examples=10, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(manifest=manifests)
def test_any_facts_make_a_valid_description(manifest: Manifest) -> None:
    body = croissant_of(manifest)
    metadata = read_croissant(json.loads(json.dumps(body))).metadata
    assert metadata.name == body["name"]
    assert metadata.conforms_to == body["conformsTo"]
    for key, value in (
        ("data_limitations", body["rai:dataLimitations"]),
        ("data_use_cases", body["rai:dataUseCases"]),
        ("data_collection", body.get("rai:dataCollection")),
        ("data_annotation_protocol", body.get("rai:dataAnnotationProtocol")),
        ("data_preprocessing_protocol", body.get("rai:dataPreprocessingProtocol")),
        ("personal_sensitive_information", body.get("rai:personalSensitiveInformation")),
    ):
        found = getattr(metadata, key)
        assert (set(found) if isinstance(found, list) else found) == (
            set(value) if isinstance(value, list) else value
        ), key


def test_a_dataset_directory_describes_its_shards_and_columns(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    build(tmp_path, chatml, strategies)
    root = tmp_path / "dataset"
    found = read_croissant(str(root / CROISSANT)).metadata
    shards = {path.name: path.read_bytes() for path in root.glob("*.arrow")}
    objects = {each.id: each for each in found.distribution if hasattr(each, "sha256")}
    assert objects.keys() == shards.keys() and len(shards) == 3
    for name, body in shards.items():
        assert objects[name].sha256 == hashlib.sha256(body).hexdigest()
        assert objects[name].content_size == f"{len(body)} B"
    [rows] = found.record_sets
    columns = datasets.load_from_disk(str(root)).column_names
    assert [each.name for each in rows.fields] == columns
    with pytest.raises(ValueError, match="load_from_disk"):
        datasets.load_dataset(str(root))


def plain(value: Any) -> Any:
    """A record of mlcroissant, which gives texts as bytes and names by their whole path."""
    if isinstance(value, dict):
        return {name.rpartition("/")[2]: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_the_records_of_an_export_are_its_rows(
    format: Format, shape: Shape, tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    rows = examples_of(chatml, strategies, 5)
    rows[1] = dataclasses.replace(rows[1], strategy="2020-01-01 \u00e9\n| x")
    source, out = dataset(tmp_path / "run", chatml, strategies, rows), tmp_path / "out"
    bounds = Bounds(group_rows=2, file_bytes=1)
    made = export(source, out, shape=shape, format=format, bounds=bounds)
    assert len(made.files) == 3
    found = read_croissant(str(out / CROISSANT))
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    records = [plain(record) for record in found.records("rows")]
    assert records == list(loaded)
    assert [entry.path for entry in made.descriptions if entry.path == CROISSANT] == [CROISSANT]


def test_a_part_of_an_export_that_was_changed_is_no_longer_what_is_described(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    source, out = tmp_path / "run", tmp_path / "out"
    root = dataset(source, chatml, strategies, examples_of(chatml, strategies, 5))
    made = export(root, out, shape="messages", format="parquet")
    described = {
        each["@id"]: each["sha256"]
        for each in json.loads((out / CROISSANT).read_text())["distribution"]
        if "sha256" in each
    }
    assert described == {entry.path: entry.sha256 for entry in made.files}
