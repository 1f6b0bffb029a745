from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import trainers
from benchmarks.foreign.ours import make_dataset


def test_the_last_line_is_one_document_and_the_table_has_a_line_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset(tmp_path / "run", rows_per_task=3)
    out = tmp_path / "out"
    asked = ["--dataset", str(dataset), "--out", str(out), "--only", "torch-dataloader"]
    assert trainers.main(asked) == 0
    shown = capsys.readouterr().out
    assert "torch-dataloader" in shown
    told = json.loads(shown.splitlines()[-1])
    assert (told["rows"], told["equal"]) == (18, 1)
    [line] = told["trainers"]
    assert (line["verdict"], line["rows"]) == ("equal", 18)
    assert line["trained_tokens"] == told["trained_tokens"]


def test_a_dataset_that_is_none_is_a_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        trainers.main(["--dataset", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "manifest.json" in capsys.readouterr().err
