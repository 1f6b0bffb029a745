from __future__ import annotations

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
