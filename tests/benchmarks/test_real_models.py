from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from benchmarks import real_models
from orca2_gen.exit_codes import INTERRUPTED
from tests.benchmarks.pairs.test_settings import write_published
from tests.conftest import STRATEGY_NAMES

Captured = pytest.CaptureFixture[str]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["real_models", *map(str, arguments)])
    try:
        real_models.main()
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


SIZES = ("--scored", 4, "--rows", 6, "--held-out", 5)


def _scripted(folder: Path, tokenizer: Path, accuracy: dict[str, float]) -> list[object]:
    """Options of a scripted student and teacher, and of small files."""
    said = ", ".join(f"{name} = {share}" for name, share in accuracy.items())
    engine = f'{{ engine = "scripted", tokenizer = "{tokenizer}", accuracy = {{ {said} }} }}'
    given: list[object] = ["--data", write_published(folder / "data")]
    for role in ("student", "teacher"):
        given += [f"--{role}", tokenizer, "--set", f"{role}={engine}"]
    return given


def test_a_pair_goes_from_its_files_to_its_tables(
    tmp_path: Path,
    chatml_dir: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    out = tmp_path / "out"
    given = _scripted(tmp_path, chatml_dir, {})
    code = _run(monkeypatch, *given, "--out", out, *SIZES, "--steps", 0)
    said = capsys.readouterr()
    assert code == 0, said.err
    figures = json.loads(said.out.splitlines()[-1])
    assert figures == json.loads((out / "summary.json").read_text())
    assert {each["num_scored"] for each in figures["scoring"]} == {4}
    assert len(figures["scoring"]) == 4 * 6
    assert figures["undecided"]["num_cells"] == 4 * 6 * 4
    assert {each["task"]: each["num_problems"] for each in figures["teaching"]} == {
        "gsm8k": 6,
        "aqua": 6,
    }
    accepted = sum(each["num_accepted"] for each in figures["teaching"])
    assert sum(figures["rows_by_task"].values()) == accepted > 0
    assert not {"sat-en", "lsat-ar"} & figures["rows_by_task"].keys()  # AGIEval trains nobody
    assert figures["held_out"]["before"]["all"]["num_problems"] == 4 * 5
    assert {"scores", "rationales", "evaluation before", "total"} <= set(figures["seconds"])
    for title in ("under every strategy", "The choices", "The teacher's answers", "Held-out"):
        assert title in said.out


@pytest.mark.slow
def test_a_teacher_that_solves_nothing_leaves_its_tables_and_trains_nothing(
    tmp_path: Path,
    chatml_dir: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    given = _scripted(tmp_path, chatml_dir, dict.fromkeys(STRATEGY_NAMES, 0.0))
    code = _run(monkeypatch, *given, "--out", tmp_path / "out", *SIZES)
    said = capsys.readouterr()
    assert code == 0, said.err
    figures = json.loads(said.out.splitlines()[-1])
    assert {each["reason"] for each in figures["choices"]} == {"none_solved"}
    assert {each["num_accepted"] for each in figures["teaching"]} == {0}
    assert list(figures["held_out"]) == ["before"]
    assert "training rows: none, so that nothing was trained" in said.out


def test_an_interrupt_is_told_in_one_line_that_says_how_to_go_on(
    tmp_path: Path,
    chatml_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    request: pytest.FixtureRequest,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(real_models, "ask_first", interrupted)
    # A shell's background job ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    given = _scripted(tmp_path, chatml_dir, {})
    assert _run(monkeypatch, *given, "--out", tmp_path / "out", *SIZES) == INTERRUPTED
    said = capsys.readouterr().err
    assert said == "Interrupted: run the same command again to continue.\n"


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
