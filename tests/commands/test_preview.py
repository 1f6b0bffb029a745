from __future__ import annotations

import re
from pathlib import Path

from orca2_gen.records import Problem
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import Call, write_run_config


def test_a_preview_shows_prompts_answers_grades_and_rows_and_what_the_run_would_take(
    orca2: Call, chatml_dir: Path, tmp_path: Path, local_ray: None
) -> None:
    file = write_run_config(tmp_path, chatml_dir, day="")
    code, out, err = orca2("preview", file, "--rows", 2)
    assert code == 0, err
    run_dir = tmp_path / "run-preview"
    assert not (tmp_path / "run").exists()
    problems = committed_rows(read_ledger(run_dir), "problems", Problem)
    for problem in problems:
        assert f"unit {problem.task}-000000" in out
    assert out.count("trains on assistant: ") >= 1
    for name in ("direct_answer", "step_by_step", "recall_reason_generate"):
        assert re.search(rf"^  {name}: (in)?correct, answer .*, \d+ tokens", out, re.MULTILINE)
        assert f"system of {name}: " in out
    assert re.search(r"^the whole run: about \d+ rows \(\d+ to \d+\)", out, re.MULTILINE)
    assert out.splitlines()[-1] == f"a page about it: orca2 report {run_dir}"
    # Another setting makes another preview, and the same directory goes on if it is named.
    assert orca2("preview", file, "--rows", 1)[0] == 0
    assert (tmp_path / "run-preview-2").is_dir()
    before = (run_dir / "ledger.jsonl").read_bytes()
    assert orca2("preview", file, "--rows", 2, "--into", run_dir)[0] == 0
    assert (run_dir / "ledger.jsonl").read_bytes() == before
