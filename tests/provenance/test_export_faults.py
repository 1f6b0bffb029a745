from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.chat import Chat
from orca2_gen.dataset.export import export
from orca2_gen.provenance.export_faults import is_export, verify_export
from orca2_gen.strategies import Strategies
from tests.dataset.test_export import ALL, dataset, examples_of


@pytest.fixture
def root(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    return dataset(tmp_path / "run", chatml, strategies, examples_of(chatml, strategies, 5))


@pytest.mark.parametrize(("shape", "format"), ALL)
def test_an_export_is_whole_wherever_it_lies(
    root: Path, tmp_path: Path, shape: Any, format: Any
) -> None:
    export(root, tmp_path / "out", shape=shape, format=format)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert is_export(moved) and not is_export(root)
    assert verify_export(moved) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_every_damage_of_every_file_is_one_finding(
    root: Path, tmp_path: Path, damage: str, format: Any
) -> None:
    out = tmp_path / "out"
    made = export(root, out, shape="sharegpt", format=format)
    for name in ["export.json", *(entry.path for entry in made.listed)]:
        whole = (out / name).read_bytes()
        if damage == "delete":
            if name == "export.json":
                continue
            (out / name).unlink()
        else:
            half = len(whole) // 2
            rest = bytes([whole[half] ^ 64]) + whole[half + 1 :] if damage == "flip" else b""
            (out / name).write_bytes(whole[:half] + rest)
        (fault, *_) = verify_export(out)
        assert (name if name != "export.json" else "out") in fault and "\n" not in fault
        (out / name).write_bytes(whole)
    assert verify_export(out) == []


def test_a_file_beside_an_export_is_a_finding(root: Path, tmp_path: Path) -> None:
    export(root, tmp_path / "out", shape="sharegpt", format="jsonl")
    (tmp_path / "out" / "train-00009-of-00010.jsonl").write_text("{}\n")
    (fault,) = verify_export(tmp_path / "out")
    assert "train-00009-of-00010.jsonl is not listed" in fault


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_rows_and_labels_are_counted_and_not_taken_on_trust(
    root: Path, tmp_path: Path, format: Any
) -> None:
    out = tmp_path / "out"
    made = export(root, out, shape="tokens", format=format)
    body = json.loads((out / "export.json").read_text())
    body["trained_tokens"] += 1
    (out / "export.json").write_text(json.dumps(body))
    (fault,) = verify_export(out)
    assert f"{made.trained_tokens} labels are trained" in fault
    body["trained_tokens"] -= 1
    body["files"][0]["rows"] += 1
    (out / "export.json").write_text(json.dumps(body))
    assert any("rows" in fault for fault in verify_export(out))


def test_a_file_whose_digest_fits_and_which_is_none_of_its_format_is_a_finding(
    root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(root, out, shape="messages", format="parquet")
    body = json.loads((out / "export.json").read_text())
    (out / body["files"][0]["path"]).write_bytes(b"PAR1")
    body["files"][0] |= {"bytes": 4, "sha256": hashlib.sha256(b"PAR1").hexdigest()}
    (out / "export.json").write_text(json.dumps(body))
    (fault,) = verify_export(out)
    assert "cannot be read" in fault


def test_what_is_no_export_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished export"):
        verify_export(root)
    export(root, tmp_path / "out", shape="messages", format="parquet")
    (tmp_path / "out" / "export.json").write_text('{"version": 9}')
    with pytest.raises(ValueError, match="version 9"):
        verify_export(tmp_path / "out")
