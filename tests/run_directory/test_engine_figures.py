from __future__ import annotations

import os
from pathlib import Path

import pytest

from orca2_gen.run_directory.engine_figures import (
    Answers,
    EngineFigures,
    figures_path,
    read_figures,
    write_figures,
)


def figures(start: str = "a1", **values: object) -> EngineFigures:
    return EngineFigures(
        start=start, stage="scores", model="student", replica=0, node="host", **values
    )


def test_what_an_engine_writes_is_read_again(tmp_path: Path) -> None:
    made = figures(
        num_gpus=4,
        gpu="H200",
        seconds=61.5,
        start_seconds=40.25,
        generated_tokens=7,
        answers={"direct_answer": Answers(requests=2, prompt_tokens=30, completion_tokens=7)},
    )
    write_figures(figures_path(tmp_path, "student-0", made.start), made)
    assert read_figures(tmp_path) == {"a1": made}
    assert made.device_seconds == 4 * 61.5


def test_each_start_has_a_file_of_its_own_and_a_later_writing_replaces_it(tmp_path: Path) -> None:
    for start in ("a1", "b2", "a1"):
        write_figures(figures_path(tmp_path, "student-0", start), figures(start, seconds=2.0))
    assert sorted(path.name for path in (tmp_path / "engines").iterdir()) == [
        "student-0.a1.json",
        "student-0.b2.json",
    ]


@pytest.mark.parametrize("body", ["", "[]", "{", '{"start": 1}', "null", "\udcff", "[" * 100_000])
def test_a_file_of_something_else_is_left_out(tmp_path: Path, body: str) -> None:
    write_figures(figures_path(tmp_path, "student-0", "a1"), figures())
    (tmp_path / "engines/other.json").write_bytes(body.encode(errors="surrogateescape"))
    os.mkfifo(tmp_path / "engines/fifo.json")
    (tmp_path / "engines/folder.json").mkdir()
    assert read_figures(tmp_path).keys() == {"a1"}


def test_a_run_without_engines_has_none(tmp_path: Path) -> None:
    assert read_figures(tmp_path) == {}


def test_a_directory_that_cannot_be_written_keeps_no_engine_from_its_work(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    write_figures(figures_path(tmp_path, "student-0", "a1"), figures())
    assert (tmp_path / "engines").read_text() == "a file"
