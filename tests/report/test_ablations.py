from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.report.ablations import ABLATIONS, Ablations, read_ablations
from orca2_gen.report.page import page_of, rendered
from tests.conftest import FinishedRun
from tests.report.test_page import HOSTILE, Parsed


def arm(accuracy: float, **per_task: float) -> dict[str, Any]:
    """The figures of an arm as `benchmarks.ablations` writes them."""
    return {
        "accuracy": accuracy,
        "interval": [accuracy - 0.01, accuracy + 0.01],
        "seeds": [accuracy, accuracy],
        "tokens": 23.6,
        "rows": 1491,
        "rows_per_task": dict.fromkeys(per_task, 7),
        "per_task": per_task,
    }


def write_ablations(folder: Path, *names: str, cut: bool = True) -> None:
    """Writes figures of arms of these names, each less accurate than the one before."""
    arms = {name: arm(0.991 - number / 10, add=1.0, river=0.5) for number, name in enumerate(names)}
    body = {"arms": arms, "arms_cut": arms if cut else {}, "rows_per_task_cut": {"add": 9}}
    (folder / ABLATIONS).write_text(json.dumps(body))


@pytest.fixture
def ours(undisturbed: FinishedRun, tmp_path: Path) -> Path:
    """A run that is the arm `ours`."""
    return Path(shutil.copytree(undisturbed.run_dir, tmp_path / "ours"))


@pytest.mark.parametrize("cut", [True, False])
def test_a_run_that_is_an_arm_shows_all_arms(ours: Path, cut: bool) -> None:
    write_ablations(ours.parent, "ours", "no_erasure", cut=cut)
    text = Parsed(rendered(page_of(ours))).text
    assert "this run is the arm ours" in text and "no erasure" in text
    assert text.count("99.1") >= 1 and "89.1" in text and "98.1 to 100.1" in text
    assert ("cut to the smallest arm's rows" in text) is cut


def test_a_run_that_is_no_arm_shows_none(ours: Path) -> None:
    assert read_ablations(ours) is None
    write_ablations(ours.parent, "random", "no_erasure")
    assert read_ablations(ours) is None
    (ours.parent / ABLATIONS).write_text('[{"of": "another tool"}]')
    assert read_ablations(ours) is None
    assert "Ablations" not in Parsed(rendered(page_of(ours))).text


@pytest.mark.parametrize("body", ["{", '{"arms": {"ours": {}}}', '{"arms": {"ours": 3}}'])
def test_damaged_figures_cost_their_section_alone(ours: Path, body: str) -> None:
    (ours.parent / ABLATIONS).write_text(body)
    text = Parsed(rendered(page_of(ours))).text
    assert re.search(r"cannot be shown: \S+ablations\.json", text)
    assert "What it was made of" in text


def test_names_of_arms_and_tasks_stay_text(ours: Path) -> None:
    figures = arm(0.5, **{HOSTILE: 0.5})
    body = {"arms": {"ours": figures, HOSTILE: figures}, "arms_cut": {}, "rows_per_task_cut": {}}
    (ours.parent / ABLATIONS).write_text(json.dumps(body))
    assert isinstance(read_ablations(ours), Ablations)
    parsed = Parsed(rendered(page_of(ours)))
    assert [tag for tag, _ in parsed.tags if tag in ("script", "img")] == ["script"]
