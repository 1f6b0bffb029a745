"""The files that a path names, their order, and the limits on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.tasks import files, rows
from orca2_gen.tasks.files import task_files
from tests.tasks.reading import GOOD, read, reasons, sample_file


def test_a_tree_is_read_in_order_of_relative_paths_without_hidden_or_other_files(
    tmp_path: Path,
) -> None:
    for name in (
        "b/1.json",
        "a/10.json",
        "a/2.JSON",
        "a.json.gz",
        ".x/1.json",
        "a/.y.json",
        "z.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    found = [file.name for file in task_files(tmp_path, (".json",))]
    assert found == ["a.json.gz", "a/10.json", "a/2.JSON", "b/1.json"]


def test_linked_files_are_read_and_linked_directories_are_not(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text(GOOD)
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a.jsonl").symlink_to(tmp_path / "blob")
    (tmp_path / "d" / "sub" / "loop").symlink_to(tmp_path / "d")
    assert [file.name for file in task_files(tmp_path / "d", (".jsonl",))] == ["a.jsonl"]
    assert reasons(read(tmp_path / "d")) == ["problem"]


def test_a_name_that_cannot_be_printed_or_encoded_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in (b"a\xff.jsonl", b"b\n.jsonl"):
        Path(str(folder), name.decode("utf-8", "surrogateescape")).write_text(GOOD + "{\n")
    found = read(folder)
    assert reasons(found) == ["problem", "not_json"] * 2
    assert [x.problem_id for x in found] == [
        *("t/test/a%FF.jsonl-0", "'a\\udcff.jsonl':2", "t/test/b%0A.jsonl-0", "'b\\n.jsonl':2")
    ]


def test_too_many_files_and_too_large_a_document_are_clear_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 2)
    monkeypatch.setattr(rows, "MAX_DOCUMENT_BYTES", 50)
    with pytest.raises(ValueError, match="more than 50 bytes"):
        read(sample_file(tmp_path, "bbh"), format="bbh")
    for name in "abc":
        (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(ValueError, match="more than 2 files"):
        task_files(tmp_path, (".json",))
