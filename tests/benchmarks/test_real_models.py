from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import real_models
from tests.benchmarks.pairs.test_settings import write_published

Captured = pytest.CaptureFixture[str]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["real_models", *map(str, arguments)])
    try:
        real_models.main()
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


def test_a_pair_goes_from_its_files_to_its_tables(
    tmp_path: Path,
    chatml_dir: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    data = write_published(tmp_path / "data")
    scripted = f'{{ engine = "scripted", tokenizer = "{chatml_dir}" }}'
    models = [option for role in ("student", "teacher") for option in (f"--{role}", chatml_dir)]
    engines = [part for role in ("student", "teacher") for part in ("--set", f"{role}={scripted}")]
    sizes = ["--scored", 4, "--rows", 6, "--held-out", 5, "--steps", 0]
    out = tmp_path / "out"
    code = _run(monkeypatch, *models, "--data", data, "--out", out, *sizes, *engines)
    said = capsys.readouterr()
    assert code == 0, said.err
    figures = json.loads(said.out.splitlines()[-1])
    assert figures == json.loads((out / "summary.json").read_text())
    assert {each["num_scored"] for each in figures["scoring"]} == {4}
    assert len(figures["scoring"]) == 4 * 6
    assert figures["undecided"]["num_cells"] == 4 * 6 * 4
    assert {each["num_problems"] for each in figures["teaching"]} == {6}
    accepted = sum(each["num_accepted"] for each in figures["teaching"])
    assert sum(figures["rows_by_task"].values()) == accepted > 0
    assert figures["held_out"]["before"]["all"]["num_problems"] == 4 * 5
    assert {"scores", "rationales", "evaluation before", "total"} <= set(figures["seconds"])
    for title in ("under every strategy", "The choices", "The teacher's answers", "Held-out"):
        assert title in said.out


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (["--student", "absent"], "Error: --student: no directory at absent"),
        (["--data", "absent"], "Error: --data: no directory at absent"),
        (["--agieval", "sat-en", "none"], "Error: --data: no agieval_none.jsonl"),
        (["--rows", "0"], "Error: --rows is 0; give a larger number"),
        (["--max-tokens", "8", "--retry-max-tokens", "4"], "retry_max_tokens"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_starts(
    tmp_path: Path,
    chatml_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    changed: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_published(tmp_path / "data")
    given = ["--student", chatml_dir, "--teacher", chatml_dir, "--data", data, *changed]
    assert _run(monkeypatch, *given) == 2
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (tmp_path / "runs" / "real_models" / "run").exists()
