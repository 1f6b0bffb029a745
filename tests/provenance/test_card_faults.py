from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.dataset.manifest import checked_manifest
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun
from tests.dataset.test_croissant import read_croissant

Change = Callable[[dict[str, Any]], None]


def change_manifest(root: Path, change: Change) -> None:
    path = root / "manifest.json"
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def change_description(root: Path, name: str, old: str, new: str) -> None:
    """Changes a description and its digest in the manifest."""
    text = (root / name).read_text()
    assert old in text
    body = text.replace(old, new).encode()
    (root / name).write_bytes(body)

    def list_it(manifest: dict[str, Any]) -> None:
        [entry] = [each for each in manifest["descriptions"] if each["path"] == name]
        entry |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    change_manifest(root, list_it)


@pytest.fixture(params=["run", "dataset"])
def place(request: pytest.FixtureRequest, run_copy: Path, tmp_path: Path) -> Path:
    """A run, and a dataset that left its run: what is verified."""
    if request.param == "run":
        return run_copy
    return Path(shutil.copytree(run_copy / "dataset", tmp_path / "moved"))


def dataset_in(place: Path) -> Path:
    return place / "dataset" if (place / "dataset").exists() else place


def test_a_card_and_a_croissant_that_are_the_manifests_are_whole(place: Path) -> None:
    assert verify(place).findings == []
    manifest = checked_manifest(dataset_in(place))
    listed = [entry.path for entry in manifest.descriptions]
    assert listed == ["state.json", "dataset_info.json", "README.md", "croissant.json"]
    assert manifest.facts is not None and manifest.figures is not None


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", "not stated", "mit"),
        ("README.md", "license: other", "license: mit"),
        ("README.md", "synthetic", "written by people"),
        ("croissant.json", "not stated", "mit"),
        ("croissant.json", "Answers", "Some answers"),
    ],
)
def test_an_edited_description_is_named_whatever_digest_is_listed(
    place: Path, name: str, old: str, new: str
) -> None:
    root = dataset_in(place)
    text = (root / name).read_text()
    old = old if old in text else "synthetic"
    change_description(root, name, old, new)
    [finding] = [each for each in verify(place).findings if name in each]
    assert "is not the" in finding and "that this program makes of the manifest" in finding


def test_an_edited_description_is_named_if_the_manifest_says_that_an_older_version_made_it(
    place: Path,
) -> None:
    root = dataset_in(place)
    change_description(root, "README.md", "synthetic", "true")
    change_manifest(root, lambda manifest: manifest.update(card_version=0))
    assert [each for each in verify(place).findings if "README.md" in each]


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
def test_a_description_that_is_not_listed_or_not_there_is_named(place: Path, name: str) -> None:
    root = dataset_in(place)

    def forget(manifest: dict[str, Any]) -> None:
        kept = [each for each in manifest["descriptions"] if each["path"] != name]
        manifest["descriptions"] = kept

    change_manifest(root, forget)
    assert any("does not list" in each and name in each for each in verify(place).findings)
    (root / name).unlink()
    assert any("is absent" in each and name in each for each in verify(place).findings)


def edit(manifest: dict[str, Any], *keys: Any, value: Any) -> None:
    *above, last = keys
    for key in above:
        manifest = manifest[key]
    assert manifest[last] != value
    manifest[last] = value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("figures", "rows_by_strategy", "step_by_step"), 1),
        (("figures", "row_tokens", "median"), 1),
        (("figures", "tokens_by_task", "sums", "trained"), 1),
        (("figures", "columns", 0, 0), "id"),
        (("figures",), None),
        (("facts", "sources", 0, "read"), 999),
        (("facts", "sources", 0, "license"), "mit"),
        (("facts", "models", 0, "license"), "mit"),
        (("facts", "sampling", "temperature"), 0.1),
        (("facts", "stages", 0, "reasons"), {}),
        (("facts", "choices", 0, "score"), 0.0),
        (("facts", "copies"), None),
        (("facts", "date"), "1999-01-01"),
        (("facts", "versions"), []),
        (("facts", "settings", "run_seed"), 7),
        (("facts",), None),
        (("name",), "other"),
    ],
)
def test_an_edited_fact_or_figure_of_the_manifest_is_named(
    place: Path, keys: tuple[Any, ...], value: Any
) -> None:
    root = dataset_in(place)
    change_manifest(root, lambda manifest: edit(manifest, *keys, value=value))
    assert verify(place).findings


def test_a_fact_is_compared_with_the_run_even_if_card_and_croissant_say_the_same(
    run_copy: Path,
) -> None:
    from orca2_gen.dataset.card import card_of
    from orca2_gen.dataset.croissant import croissant_of
    from orca2_gen.dataset.manifest import read_manifest
    from orca2_gen.dataset.write import json_bytes

    root = run_copy / "dataset"
    change_manifest(root, lambda m: edit(m, "facts", "models", 0, "license", value="mit"))
    manifest = read_manifest(root)
    for name, body in (
        ("README.md", card_of(manifest)),
        ("croissant.json", json_bytes(croissant_of(manifest))),
    ):
        change_description(root, name, (root / name).read_text(), body.decode())
    [finding] = verify(run_copy).findings
    assert "facts.models in its manifest" in finding


def test_the_facts_of_a_manifest_are_those_of_the_ledger(undisturbed: FinishedRun) -> None:
    manifest, ledger = (
        checked_manifest(undisturbed.run_dir / "dataset"),
        read_ledger(undisturbed.run_dir),
    )
    facts = manifest.facts
    assert facts is not None
    for stage in facts.stages:
        receipts = ledger.committed(stage.stage)
        for name in ("input", "accepted", "rejected"):
            assert getattr(stage, name) == sum(each.counts[name] for each in receipts)
        assert sum(stage.reasons.values()) == stage.rejected
    for source in facts.sources:
        assert source.read == source.accepted + source.rejected
        assert sum(source.reasons.values()) == source.rejected
    assert manifest.summary is not None and manifest.figures is not None
    assert sum(source.rows for source in facts.sources) == manifest.summary.rows
    assert sum(manifest.figures.rows_by_strategy.values()) == manifest.summary.rows
    assert [model.role for model in facts.models] == ["student", "teacher"]
    [versions] = facts.versions
    assert {"orca2-gen", "transformers", "torch"} <= {name for name, _ in versions}


def test_no_path_of_this_machine_stands_in_what_is_published(undisturbed: FinishedRun) -> None:
    root = undisturbed.run_dir / "dataset"
    config = json.loads((undisturbed.run_dir / "config.json").read_text())["config"]
    paths = [config["run_dir"], config["student"]["tokenizer"], config["tasks"][0]["path"]]
    for file in ("README.md", "croissant.json", "manifest.json", "dataset_info.json"):
        text = (root / file).read_text()
        assert not [path for path in paths if path in text or str(Path(path).parent) in text]


def test_the_croissant_of_a_run_with_provenance_is_valid_offline(
    undisturbed: FinishedRun,
) -> None:
    found = read_croissant(str(undisturbed.run_dir / "dataset" / "croissant.json")).metadata
    [rows] = found.record_sets
    [provenance] = [each for each in rows.fields if each.name == "provenance"]
    assert len(provenance.sub_fields) > 3 and found.date_published is not None


@pytest.mark.parametrize("feature", [None, 5, "text", [], {"feature": 3}, {"dtype": ["a"]}])
def test_figures_of_what_is_no_column_are_named(place: Path, feature: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["figures"]["columns"][0][1] = feature

    change_manifest(dataset_in(place), change)
    assert any("figures.columns" in finding for finding in verify(place).findings)
