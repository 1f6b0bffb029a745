from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import Call, FinishedRun, Write


def test_a_plan_tells_what_the_run_takes_and_writes_nothing(
    orca2: Call, write_config: Write, tmp_path: Path, local_ray: None
) -> None:
    file = write_config()
    before = sorted(tmp_path.iterdir())
    code, out, err = orca2("plan", file)
    assert (code, err) == (0, "")
    assert re.search(r"^the whole run: about \d+ rows \(\d+ to \d+\), ", out, re.MULTILINE)
    for stage in ("scores", "rationales"):
        assert f"speed of {stage}: known from nothing" in out
    assert sorted(tmp_path.iterdir()) == before


def test_a_plan_beside_a_run_knows_its_speed(orca2: Call, undisturbed: FinishedRun) -> None:
    code, out, _ = orca2("plan", undisturbed.config_file)
    assert code == 0
    assert (
        f"speed of scores: known from {Path(undisturbed.config.student.tokenizer).name} in run"
        in out
    )
    assert re.search(r"^the whole run: about \d+ rows .* in \d+ s \(", out, re.MULTILINE)


def test_a_plan_of_rows_that_fit_nowhere_says_which_key_to_lower(
    orca2: Call, write_config: Write, tmp_path: Path, local_ray: None
) -> None:
    file = write_config()
    question = "What is the sum of one and one? " * 200
    for name in ("sums", "letters"):
        row = {"question": f"{name}: {question}", "answer": "2"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    long = ("--set", "student.max_model_len=3000", "--set", "teacher.max_model_len=20000")
    code, out, err = orca2("plan", file, *long)
    assert code == 3 and "the whole run" not in out
    assert "prompt_too_long: student: " in err
    assert "lower scoring.retry_max_tokens, or raise student.max_model_len" in err
    assert err.splitlines()[-1] == "Error: the tasks hold no problem that could be asked"


def test_a_rehearsal_says_that_its_figures_are_planted(
    orca2: Call, write_config: Write, tmp_path: Path, local_ray: None
) -> None:
    code, out, _ = orca2("run", write_config())
    assert code == 0 and "planted, not measured" in out
    assert orca2("report", tmp_path / "run")[0] == 0
    assert "planted, not measured" in (tmp_path / "run" / "report.html").read_text()
