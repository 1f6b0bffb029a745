from __future__ import annotations

import json
from pathlib import Path

import pytest

from orca2_gen.records import Rationale
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.stored_answers import read_answers, write_answers
from tests.answers import ANSWER


def test_stored_answers_come_back_under_their_key_alone(tmp_path: Path) -> None:
    assert read_answers(tmp_path, "t-000000", "k") is None
    write_answers(tmp_path, "t-000000", "k", [ANSWER], 3)
    found = read_answers(tmp_path, "t-000000", "k")
    assert found is not None and found.num_open == 3
    assert read_records(tmp_path, found.file, Rationale) == [ANSWER]
    assert read_answers(tmp_path, "t-000000", "other") is None
    assert read_answers(tmp_path, "t-000001", "k") is None


@pytest.mark.parametrize("name", ["t-000000.arrow", "t-000000.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "list"])
def test_damaged_answers_are_named(tmp_path: Path, name: str, damage: str) -> None:
    write_answers(tmp_path, "t-000000", "k", [ANSWER], 3)
    path = tmp_path / "regraded" / name
    body = bytearray(path.read_bytes())
    body[1] ^= 1
    bodies = {"flip": body, "cut": body[:-9], "empty": b"", "list": b"[]"}
    path.write_bytes(bodies[damage])
    with pytest.raises(DamagedFile, match="t-000000"):
        read_answers(tmp_path, "t-000000", "k")


def test_a_description_names_no_file_elsewhere(tmp_path: Path) -> None:
    write_answers(tmp_path, "t-000000", "k", [ANSWER], 3)
    path = tmp_path / "regraded" / "t-000000.json"
    said = json.loads(path.read_text())
    said["file"]["path"] = "../t-000000.arrow"
    path.write_text(json.dumps(said))
    with pytest.raises(DamagedFile, match="names another file"):
        read_answers(tmp_path, "t-000000", "k")
