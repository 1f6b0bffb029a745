from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.chat import Chat
from orca2_gen.run_directory.claim import MARK
from orca2_gen.strategies import Strategies
from tests.dataset.test_export import dataset, examples_of, read

OLDER_RUN = Path(__file__).parents[1] / "older_run" / "RUN"


@pytest.fixture
def run(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    dataset(tmp_path / "run", chatml, strategies, examples_of(chatml, strategies, 5))
    return tmp_path / "run"


def orca2(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orca2_gen", *map(str, arguments)], capture_output=True, text=True
    )


def test_export_says_in_one_line_what_it_wrote(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = orca2("export", run, "--format", "jsonl", "--shape", "tokens", out)
    rows = read(out, "jsonl")
    trained = sum(label != -100 for row in rows for label in row["labels"])
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout == (
        f"{out}: 5 rows of tokens in 1 jsonl file; {trained} of {tokens} tokens are trained\n"
    )


def test_parquet_of_messages_is_written_unless_something_else_is_asked_for(
    run: Path, tmp_path: Path
) -> None:
    assert orca2("export", run / "dataset", tmp_path / "out").returncode == 0
    assert [set(row) for row in read(tmp_path / "out", "parquet")] == [
        {"problem_id", "attempt", "task", "strategy", "messages"}
    ] * 5


def test_mistakes_are_one_line_and_damage_is_exit_code_1(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (run / MARK).write_text("{}")
    damaged = run / "dataset" / "data-00001-of-00002.arrow"
    for arguments, code, fault in [
        ((tmp_path / "absent", tmp_path / "out"), 2, "is not a directory"),
        ((tmp_path / "mine", tmp_path / "out"), 2, "neither a finished dataset"),
        ((run, tmp_path / "mine"), 2, "holds 'notes.txt' and is no export of ours"),
        ((run, run / "out"), 2, "lies inside"),
        ((run, tmp_path / "out", "--shape", "pairs"), 2, "Invalid value for '--shape'"),
        ((run, tmp_path / "out"), 1, "has a SHA-256 other than its list says"),
    ]:
        if code == 1:
            damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
        done = orca2("export", *arguments)
        assert done.returncode == code, done.stderr
        assert fault in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.count("\n") == (4 if "--shape" in arguments else 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


def test_texts_of_a_run_are_compared_with_its_student(tmp_path: Path) -> None:
    config = tmp_path / "RUN" / "config.json"
    shutil.copytree(OLDER_RUN, config.parent)
    made_at = "/orca2-gen/tests/older_run"
    done = orca2("export", tmp_path / "RUN", tmp_path / "out")
    assert done.stdout.startswith("note: no text is compared with the rows' tokens: ")
    assert "35 rows of messages in 1 parquet file" in done.stdout
    config.write_text(config.read_text().replace(made_at, str(OLDER_RUN.parent)))
    done = orca2("export", tmp_path / "RUN", tmp_path / "out")
    assert "note" not in done.stdout and done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "out" / "export.json").read_text())["other_tokens"] == 0
    done = orca2("export", tmp_path / "RUN", tmp_path / "out", "--no-compare")
    assert json.loads((tmp_path / "out" / "export.json").read_text())["other_tokens"] is None
